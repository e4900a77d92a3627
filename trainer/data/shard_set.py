"""An opened shards folder: the bytes of every clip by its number, from tars or unpacked folders."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shardify.format.index import PAYLOAD_EXTENSION, ShardIndex, read_index, read_meta
from shardify.format.schema import SPLITS
from shardify.storage.local import file_sha256
from trainer.data.locate import find_shards
from trainer.data.webdataset import scan_tars
from trainer.errors import FormatError, SettingsError

try:  # the same checksum, 16 times as fast
    from zlib_ng.zlib_ng import crc32
except ImportError:
    from zlib import crc32


@dataclass(frozen=True)
class ShardSet:
    """All clips of a shards folder, by their number in samples.npy (plan order)."""

    folder: Path
    classes: list[str]
    frames: int  # T
    size: int  # S, pixels
    codec: str  # jpeg | raw
    samples: np.ndarray  # shardify.format.index.SAMPLE_DTYPE
    paths: dict[tuple[int, int], Path]  # (split, shard) → its tar, or the folder of its members
    unpacked: frozenset[Path]  # those of `paths` that are folders of members, as Kaggle makes of tars
    fingerprint: str  # SHA-256 of samples.npy: which data a run was trained on
    has_crc: bool = True  # whether the table knows the payloads' CRC-32
    extensions: np.ndarray | None = None  # bytes (N,), of another writer's unpacked payloads
    notes: tuple[str, ...] = ()  # what a user should know about how the folder was understood

    def numbers(self, split: str) -> np.ndarray:
        """The numbers of a split's clips, int64 (N,)."""
        if split not in SPLITS:
            raise FormatError(f"{split} is no split; choose train, val or test")
        return np.flatnonzero(self.samples["split"] == SPLITS.index(split))

    def key(self, number: int) -> str:
        return self.samples["key"][number].decode("utf-8", "replace")

    def payload_path(self, number: int) -> Path:
        """The file that holds a clip's payload."""
        path = self._shard(number)
        if path not in self.unpacked:
            return path
        own = self.extensions is None
        extension = PAYLOAD_EXTENSION[self.codec] if own else self.extensions[number].decode()
        return path / f"{self.key(number)}.{extension}"

    def read(self, number: int, check: bool = True) -> bytes:
        """A clip's payload. Raises FormatError with shard and key when it is short or differs from the index."""
        record = self.samples[number]
        path, length = self.payload_path(number), int(record["length"])
        offset = int(record["offset"]) if path is self._shard(number) else 0
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe must not block
            try:
                is_there = offset + length <= os.fstat(descriptor).st_size  # before memory is taken for it
                payload = os.pread(descriptor, length, offset) if is_there else b""
            finally:
                os.close(descriptor)
        except OSError as error:
            raise FormatError(
                f"{self.where(number)} cannot be read ({error.strerror}); copy the folder again"
            ) from error
        if len(payload) < length:
            raise FormatError(f"{self.where(number)}: the file ends too early; copy the folder again")
        if check and self.has_crc and crc32(payload) != record["crc"]:
            raise FormatError(f"{self.where(number)}: payload differs from the index; copy the folder again")
        return payload

    def where(self, number: int) -> str:
        return f"{self._shard(number)}: clip {self.key(number)}"

    def _shard(self, number: int) -> Path:
        record = self.samples[number]
        return self.paths[int(record["split"]), int(record["shard"])]


def open_shards(name: Path | str, frames: int | None = None) -> ShardSet:
    """Open a folder made by `shardify build`, as it is or unpacked by Kaggle, some of its tars, or foreign ones.

    name: a folder, a tar, a glob, a brace pattern, or a data set that Kaggle has mounted (owner/slug).
    frames: of a contact sheet in tars without an index, where no .json says it.
    Raises FormatError when the shards are unfinished, damaged, or missing.
    """
    folder, tars = find_shards(name)
    if tars is not None and not (folder / "index.json").is_file():
        return ShardSet(folder, **scan_tars(tars, frames))
    index = read_index(folder)
    try:
        return _open_index(index, tars)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FormatError(f"{folder / 'index.json'}: is damaged ({error!r}); copy the folder again") from error


def _open_index(index: ShardIndex, tars: list[Path] | None) -> ShardSet:
    """The whole folder, or only the clips in some of its tars."""
    folder, samples, settings = index.folder, index.samples, index.settings
    names = [shard["name"] for split in index.meta["splits"].values() for shard in split["shards"]]
    for tar in tars or []:
        if tar.parent != folder or tar.name not in names:
            raise FormatError(f"{tar}: is not among the shards of {folder / 'index.json'}; name those, or the folder")
    present = set(os.listdir(folder))
    names = names if tars is None else [tar.name for tar in tars]
    places = {name: name if name in present else name.removesuffix(".tar") for name in names}
    missing = [name for name, place in places.items() if place not in present]
    if missing:
        raise FormatError(
            f"{folder}: {missing[0]} is missing ({len(missing)} of {len(names)} shards are); copy the folder again"
        )
    _check_settings(index)
    if len(samples) == 0:
        raise FormatError(f"{folder}: holds no clip; see samples.csv for the reasons")
    fingerprint = index.meta["sha256"]["samples.npy"]
    if file_sha256(folder / "samples.npy") != fingerprint:
        raise FormatError(f"{folder / 'samples.npy'}: differs from index.json; copy the folder again")
    paths = {_shard_id(name): folder / place for name, place in places.items()}
    unpacked = frozenset(folder / place for name, place in places.items() if place != name)
    if tars is not None:
        chosen = {_shard_id(tar.name) for tar in tars}
        pairs = zip(samples["split"].tolist(), samples["shard"].tolist(), strict=True)
        samples = samples[np.fromiter((pair in chosen for pair in pairs), bool, len(samples))]
        fingerprint = hashlib.sha256(samples.tobytes()).hexdigest()
    return ShardSet(
        folder, index.classes, settings["frames"], settings["size"], settings["codec"], samples, paths, unpacked,
        fingerprint,
    )  # fmt: skip


def _check_settings(index: ShardIndex) -> None:
    """What the index says is believed when memory is allotted, so it must be what the builder could have written."""
    frames, size, codec = (index.settings[name] for name in ("frames", "size", "codec"))
    for name, value, allowed in (
        ("frames", frames, range(1, 257)),
        ("size", size, range(8, 1025, 8)),
        ("codec", codec, PAYLOAD_EXTENSION),
    ):
        if value not in allowed:
            raise FormatError(f"{index.folder / 'index.json'}: {name} is {value!r}; build or copy the folder again")
    if not index.classes or not all(isinstance(name, str) for name in index.classes):
        raise FormatError(f"{index.folder / 'index.json'}: classes are {index.classes}; names are needed")


def _shard_id(name: str) -> tuple[int, int]:
    """Split and number: (1, 3) for val-000003.tar."""
    split, _, number = name.removesuffix(".tar").rpartition("-")
    return SPLITS.index(split), int(number)


def input_shape(shards: ShardSet, frames: int | None, size: int | None) -> tuple[int, int]:
    """(T, S) that the model sees: data.frames and data.size, or what the shards hold. Raises SettingsError."""
    for name, wanted in (("frames", frames), ("size", size)):
        stored = getattr(shards, name)
        if wanted is not None and wanted > stored:
            raise SettingsError(
                f"data.{name} is {wanted}, but {shards.folder} holds {stored}; ask for at most that, or build shards "
                f"with --{name} {wanted}"
            )
    return frames or shards.frames, size or shards.size


def class_counts(shards: ShardSet, numbers: np.ndarray) -> np.ndarray:
    """Clips of each class among these numbers, int64 (K,)."""
    return np.bincount(shards.samples["label"][numbers], minlength=len(shards.classes))


def videos_of(shards: ShardSet, numbers: np.ndarray) -> np.ndarray:
    """The video of each of these clips, by its key: where a video gives several, theirs end in -000, -001 and so on."""
    keys = shards.samples["key"][numbers]
    if build_settings(shards.folder).get("clips", 1) == 1:
        return keys
    return np.array([key.rpartition(b"-")[0] for key in keys.tolist()])


def build_settings(folder: Path) -> dict:
    """How the shards' clips were made from their videos, so that others can be made alike; {} where that is unknown."""
    try:
        return read_meta(folder)["settings"]
    except FormatError:
        return {}
