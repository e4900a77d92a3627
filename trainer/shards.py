"""Index, tars or unpacked folders → a clip's bytes by number: no header scan, no `.cls`, no `.json`, no unpickling."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np

from shardify.index import PAYLOAD_EXTENSION, SPLITS, ShardIndex, read_index
from trainer.errors import FormatError, SettingsError
from trainer.find import find_shards
from trainer.foreign import scan_tars

try:  # the same checksum, 16 times as fast
    from zlib_ng.zlib_ng import crc32
except ImportError:
    from zlib import crc32

MOST_FOLDS = 20  # of which some are held out


@dataclass(frozen=True)
class ShardSet:
    """All clips of a shards folder, by their number in samples.npy (plan order)."""

    folder: Path
    classes: list[str]
    frames: int  # T
    size: int  # S, pixels
    codec: str  # jpeg | raw
    samples: np.ndarray  # shardify.index.SAMPLE_DTYPE
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
    with open(folder / "samples.npy", "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != fingerprint:
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
    """val-000003.tar → (1, 3)"""
    split, _, number = name.removesuffix(".tar").rpartition("-")
    return SPLITS.index(split), int(number)


def choose_splits(
    shards: ShardSet, val_fraction: float, seed: int, by_class: bool = True
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Clip numbers for train, val and (where there is one) test, and what the user should know about them.

    Without a val split a share of train is held out by whole groups; by_class: so that train keeps every class, and
    val has each that has a group to spare. Raises FormatError without a train split.
    """
    splits = {name: shards.numbers(name) for name in SPLITS}
    if len(splits["train"]) == 0:
        raise FormatError(f"{shards.folder}: has no train split; build one with train/ or without split folders")
    notes = list(shards.notes)
    if len(splits["val"]) == 0:
        splits["train"], splits["val"] = _hold_out(shards, splits["train"], val_fraction, seed, by_class)
        notes.append(
            f"no val split: {len(splits['val'])} of {len(shards.numbers('train'))} train clips are held out, "
            f"by whole groups"
        )
    if len(splits["test"]) == 0:
        del splits["test"]
        notes.append("no test split: the final figures are validation's, on which the model was chosen")
    return splits, notes


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


def limit_per_class(shards: ShardSet, numbers: np.ndarray, most: int, seed: int) -> np.ndarray:
    """At most so many clips of each class, int64 (N,), by chance; a larger `most` keeps those of a smaller one."""
    labels = shards.samples["label"][numbers]
    order = np.random.default_rng(seed).permutation(len(numbers))
    chosen = [order[labels[order] == label][:most] for label in np.unique(labels)]
    return numbers[np.sort(np.concatenate(chosen))]


def _hold_out(
    shards: ShardSet, train: np.ndarray, fraction: float, seed: int, by_class: bool
) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold

    labels, groups = shards.samples["label"][train], shards.samples["group"][train]
    num_groups = len(np.unique(groups))
    if num_groups < 2:
        raise FormatError(
            f"{shards.folder}: all train clips belong to one group, so none can be held out; build a val split"
        )
    per_class = min(len(np.unique(groups[labels == label])) for label in np.unique(labels))
    share = Fraction(fraction).limit_denominator(MOST_FOLDS)
    if 2 <= share.denominator <= per_class and abs(share - fraction) < fraction / 10:
        splitter = StratifiedGroupKFold(share.denominator, shuffle=True, random_state=seed)
    else:
        num_held = min(max(1, round(fraction * num_groups)), num_groups - 1)
        share, splitter = Fraction(1), GroupShuffleSplit(1, test_size=num_held, random_state=seed)
    splits = islice(splitter.split(train, labels, groups), share.numerator)
    held = np.isin(np.arange(len(train)), np.concatenate([held for _, held in splits]))
    if by_class:
        held = _keep_classes(labels, np.unique(groups, return_inverse=True)[1], held)
    if not held.any():
        raise FormatError(f"{shards.folder}: to hold out any group would take a class from train; build a val split")
    return train[~held], train[held]


def _keep_classes(labels: np.ndarray, groups: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Whether each clip is held out, bool (N,), changed where train lacks a class, or val one that it could have.

    groups: int (N,), from 0 on. Groups may have clips of several classes; where not both can be served, train is.
    """
    has = np.zeros((groups.max() + 1, labels.max() + 1), bool)  # (G, K): which classes a group has
    has[groups, labels] = True
    sizes, is_held = np.bincount(groups), np.zeros(len(has), bool)
    is_held[groups[held]] = True
    for to_val in (False, True):
        for label in np.argsort(has.sum(0), kind="stable"):
            having = np.flatnonzero(has[:, label])
            if len(having) == 0 or (is_held[having] == to_val).any():
                continue
            left = has[is_held != to_val].sum(0)  # on the side that would give a group: how many have each class
            lost = (has[having] & (left == 1)).sum(1)
            best = np.lexsort((sizes[having], lost))[0]
            if lost[best] == 0 or not to_val:
                is_held[having[best]] = to_val
    return is_held[groups]
