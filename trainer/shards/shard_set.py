"""An opened shards folder: the bytes of every clip's members by its number, from tars or unpacked folders."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from shardify.errors import MissingObjectError
from shardify.format.index import ShardIndex, all_shards, read_index, read_meta
from shardify.format.members import Member
from shardify.format.records import Head
from shardify.format.settings import BuildSettings
from shardify.format.words import SPLITS
from shardify.storage.address import Address
from shardify.storage.local import file_sha256
from shardify.storage.place import open_place
from trainer.errors import FormatError, SettingsError
from trainer.shards.locate import find_shards
from trainer.shards.payloads import HERE, Payloads, Place, find_problem, read_part
from trainer.shards.shard_cache import ShardCache
from trainer.shards.webdataset import scan_tars

# of a build: how clips are made of videos, beside the shapes of members
CLIP_SETTINGS = ("clips", "stride", "fit", "faces", "face_margin", "face_size", "decoder", "quality")


@dataclass(frozen=True)
class ShardSet:
    """All clips of a shards folder, by their number in samples.npy (plan order)."""

    folder: Path | Address
    members: dict[str, Member]  # that each clip has, by name
    heads: list[Head]  # the named labels of each clip, the primary one first
    samples: np.ndarray  # fields as of shardify.format.records.sample_dtype; version 1 lacks source and original
    paths: dict[tuple[int, int], Path | Address]  # (split, shard) → its tar, or the folder of its members
    unpacked: frozenset[Path]  # those of `paths` that are folders of members, as Kaggle makes of tars
    fingerprint: str  # SHA-256 of samples.npy: which data a run was trained on
    has_crc: bool = True  # whether the table knows the payloads' CRC-32
    extensions: np.ndarray | None = None  # bytes (N,), of another writer's unpacked payloads
    notes: tuple[str, ...] = ()  # what a user should know about how the folder was understood
    parts: tuple[ShardSet, ...] = ()  # the folders that it was mixed of, in the order of their clips
    copy: Path | None = None  # of a remote folder: where its tables lie on this machine
    cache: ShardCache | None = None  # of shards that are remote

    @property
    def name(self) -> str:
        """The folder, or all that it was mixed of, for messages."""
        return ", ".join(str(part.folder) for part in self.parts or (self,))

    @property
    def tables(self) -> Path:
        """Where index.json and the tables lie on this machine."""
        return self.copy or self.folder

    @property
    def build(self) -> dict:
        """How the clips were made from their videos, so that others can be made alike; {} where that is unknown."""
        try:
            return read_meta(self.tables)["settings"]
        except FormatError:
            return {}

    @property
    def folder_numbers(self) -> np.ndarray:
        """Of which of `parts` each clip is, int64 (N,)."""
        counts = [len(part.samples) for part in self.parts or (self,)]
        return np.repeat(np.arange(len(counts)), counts)

    @property
    def first_member(self) -> Member:
        """What is read where no member is named."""
        return next(iter(self.members.values()))

    @property
    def frames(self) -> int:
        """T of the first member."""
        return self.first_member.shape[0]

    @property
    def size(self) -> int:
        """S of the first member, pixels."""
        return self.first_member.shape[1]

    @property
    def classes(self) -> list[str]:
        """Of the primary head."""
        return self.heads[0].classes

    @property
    def labels(self) -> np.ndarray:
        """The class indices of the primary head, int (N,)."""
        return self.samples[self.heads[0].field]

    def numbers(self, split: str) -> np.ndarray:
        """The numbers of a split's clips, int64 (N,)."""
        if split not in SPLITS:
            raise FormatError(f"{split} is no split; choose train, val or test")
        return np.flatnonzero(self.samples["split"] == SPLITS.index(split))

    def key(self, number: int) -> str:
        return self.samples["key"][number].decode("utf-8", "replace")

    def shard(self, number: int) -> Path | Address:
        """The tar that holds a clip, or the folder that it was unpacked to."""
        record = self.samples[number]
        return self.paths[int(record["split"]), int(record["shard"])]

    def where(self, number: int) -> str:
        return f"{self.shard(number)}: clip {self.key(number)}"

    def payload_path(self, number: int, name: str) -> Path:
        """The file that holds the payload of a clip's member."""
        path = self.shard(number)
        if path not in self.unpacked:
            return path
        own = self.extensions is None
        extension = self.members[name].extension if own else self.extensions[number].decode()
        return path / f"{self.key(number)}.{extension}"

    def fetch(self) -> None:
        """Copy what must be on this machine before it can be read: shards of the Hub. Raises as `ShardCache.fetch`."""
        if self.cache is not None:
            self.cache.fetch(self.paths.values())

    def read(self, number: int, names: Collection[str] = (), checked: np.ndarray | None = None) -> Payloads:
        """The payloads of a clip's members of these names, or of its first one; from a tar by one read.

        checked: int64 (N,), zeros at first; it keeps of which file a clip's CRCs were right, and there they are not
        looked at again. Raises FormatError with shard and key where one is short or differs from the index, and
        StorageError where object storage fails.
        """
        record, names = self.samples[number], names or [self.first_member.name]
        path = self.paths[int(record["split"]), int(record["shard"])]
        known = 0 if checked is None else checked.item(number)
        payloads, file, problem = self._read_checked(number, record, path, names, known)
        if problem and isinstance(path, Address):  # its copy may be damaged, or what came over the network
            self.cache.drop(path)
            payloads, file, problem = self._read_checked(number, record, path, names, 0)
        if problem:
            raise FormatError(f"{self.where(number)}: {problem}; copy the folder again")
        if checked is not None and file != known:
            checked[number] = file
        return payloads

    def _read_checked(
        self, number: int, record: np.void, path: PurePath, names: Collection[str], known: int
    ) -> tuple[Payloads, int, str]:
        """The payloads, the file that they are of, as `ShardCache.read` numbers copies, and what is wrong with them.

        known: a file whose CRCs are right. Raises FormatError, StorageError.
        """
        places = [(int(record[f"{name}_offset"]), int(record[f"{name}_length"])) for name in names]
        payloads, file = self._read_places(number, path, names, places)
        is_known = not self.has_crc or (file and file == known)
        crcs = None if is_known else [record[f"{name}_crc"] for name in names]
        return payloads, file, find_problem(payloads, places, crcs)

    def _read_places(
        self, number: int, path: PurePath, names: Collection[str], places: list[Place]
    ) -> tuple[Payloads, int]:
        """The bytes of members at these places. Raises FormatError, StorageError."""
        try:
            if path in self.unpacked:
                pairs = zip(names, places, strict=True)
                return [read_part(self.payload_path(number, name), 0, length)[0] for name, (_, length) in pairs], HERE
            start = min(offset for offset, _ in places)
            read = self.cache.read if isinstance(path, Address) else read_part
            span, file = read(path, start, max(offset + length for offset, length in places) - start)
        except (OSError, MissingObjectError) as error:
            reason = getattr(error, "strerror", "it is not there")
            raise FormatError(f"{self.where(number)} cannot be read ({reason}); copy the folder again") from error
        if len(places) == 1:
            return [span], file
        view = memoryview(span)
        return [view[offset - start : offset - start + length] for offset, length in places], file


def open_shards(name: Path | str, frames: int | None = None, cache: ShardCache | None = None) -> ShardSet:
    """Open a folder made by `shardify build`, as it is or unpacked by Kaggle, some of its tars, or foreign ones.

    name: a folder, a tar, a glob, a brace pattern, a data set that Kaggle has mounted (owner/slug), or the address of
    a folder in object storage, whose copies lie in `cache`.
    frames: of a contact sheet in tars without an index, where no .json says it.
    Raises FormatError when the shards are unfinished, damaged, or missing, StorageError.
    """
    folder, tars = find_shards(name)
    if isinstance(folder, Address):
        return _open_remote(folder, cache or ShardCache())
    if tars is not None and not (folder / "index.json").is_file():
        return ShardSet(folder, **scan_tars(tars, frames))
    return _open_index(read_index(folder), tars, set(os.listdir(folder)))


def _open_remote(folder: Address, cache: ShardCache) -> ShardSet:
    folder = open_place(folder)
    copy = cache.add(folder)
    index = read_index(copy)
    shards = _open_index(index, None, {shard["name"] for shard in all_shards(index.meta)})
    paths = {place: folder / path.name for place, path in shards.paths.items()}
    return dataclasses.replace(shards, folder=folder, copy=copy, paths=paths, cache=cache)


def _open_index(index: ShardIndex, tars: list[Path] | None, present: set[str]) -> ShardSet:
    """The whole folder, or only the clips in some of its tars. present: the names in it."""
    folder, samples = index.folder, index.samples
    names = [shard["name"] for shard in all_shards(index.meta)]
    for tar in tars or []:
        if tar.parent != folder or tar.name not in names:
            raise FormatError(f"{tar}: is not among the shards of {folder / 'index.json'}; name those, or the folder")
    names = names if tars is None else [tar.name for tar in tars]
    places = {name: name if name in present else name.removesuffix(".tar") for name in names}
    missing = [name for name, place in places.items() if place not in present]
    if missing:
        raise FormatError(
            f"{folder}: {missing[0]} is missing ({len(missing)} of {len(names)} shards are); copy the folder again"
        )
    if len(samples) == 0:
        raise FormatError(f"{folder}: holds no clip; see samples.csv for the reasons")
    fingerprint = index.meta["sha256"]["samples.npy"]
    if file_sha256(folder / "samples.npy") != fingerprint:
        raise FormatError(
            f"{folder / 'samples.npy'}: differs from index.json; copy the folder again, or run its build again if that "
            "was cut off here"
        )
    paths = {_shard_id(name): folder / place for name, place in places.items()}
    unpacked = frozenset(folder / place for name, place in places.items() if place != name)
    if tars is not None:
        chosen = {_shard_id(tar.name) for tar in tars}
        pairs = zip(samples["split"].tolist(), samples["shard"].tolist(), strict=True)
        samples = samples[np.fromiter((pair in chosen for pair in pairs), bool, len(samples))]
        fingerprint = hashlib.sha256(samples.tobytes()).hexdigest()
    return ShardSet(folder, index.members, index.heads, samples, paths, unpacked, fingerprint)


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
                f"data.{name} is {wanted}, but {shards.name} holds {stored}; ask for at most that, or build shards "
                f"with --{name} {wanted}"
            )
    return frames or shards.frames, size or shards.size


def differing_options(build: Mapping, other: Mapping) -> dict[str, tuple[object, object]]:
    """The options by which two builds made clips of videos in different ways, each with its two values.

    build, other: as `ShardSet.build`; nothing differs where one of them is unknown. Each folder has boxes of its own,
    so `boxes` only says whether there are any.
    """
    if not build or not other:
        return {}
    both = [BuildSettings().to_dict() | settings for settings in (build, other)]  # older builds lack newer options
    pairs = {name: tuple(settings[name] for settings in both) for name in CLIP_SETTINGS}
    pairs["boxes"] = tuple(settings["boxes"] is not None for settings in both)
    return {name: values for name, values in pairs.items() if values[0] != values[1]}


def class_counts(shards: ShardSet, numbers: np.ndarray) -> np.ndarray:
    """Clips of each class among these numbers, int64 (K,)."""
    return np.bincount(shards.labels[numbers], minlength=len(shards.classes))


def videos_of(shards: ShardSet, numbers: np.ndarray) -> np.ndarray:
    """The video of each of these clips: its number among the inputs, uint32 (N,).

    Version 1 has no such numbers; there it is the common part of the keys of a video's clips, bytes (N,).
    """
    if "source" in shards.samples.dtype.names:
        return shards.samples["source"][numbers]
    keys = shards.samples["key"][numbers]
    if shards.build.get("clips", 1) == 1:
        return keys
    return np.array([key.rpartition(b"-")[0] for key in keys.tolist()])  # where there are several: -000, -001 and so on
