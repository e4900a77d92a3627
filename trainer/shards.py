"""Index, tars or unpacked folders → a clip's bytes by number: no header scan, no `.cls`, no `.json`, no unpickling."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shardify.index import PAYLOAD_EXTENSION, SPLITS, read_index, shard_name
from trainer.errors import FormatError


@dataclass(frozen=True)
class ShardSet:
    """All clips of a shards folder, by their number in samples.npy (plan order)."""

    folder: Path
    classes: list[str]
    frames: int  # T
    size: int  # S, pixels
    codec: str  # jpeg | raw
    samples: np.ndarray  # shardify.index.SAMPLE_DTYPE
    unpacked: bool  # each tar became a folder of its members, as Kaggle does
    fingerprint: str  # SHA-256 of samples.npy: which data a run was trained on

    def numbers(self, split: str) -> np.ndarray:
        """The numbers of a split's clips, int64 (N,)."""
        return np.flatnonzero(self.samples["split"] == SPLITS.index(split))

    def payload_path(self, number: int) -> Path:
        """The file that holds a clip's payload."""
        record = self.samples[number]
        tar = self.folder / shard_name(SPLITS[record["split"]], int(record["shard"]))
        if self.unpacked:
            return tar.with_suffix("") / f"{record['key'].decode()}.{PAYLOAD_EXTENSION[self.codec]}"
        return tar

    def read(self, number: int, check: bool = True) -> bytes:
        """A clip's payload. Raises FormatError with shard and key when it is short or differs from the index."""
        record, path = self.samples[number], self.payload_path(number)
        offset, length = (0 if self.unpacked else int(record["offset"])), int(record["length"])
        try:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                payload = os.pread(descriptor, length, offset)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise FormatError(
                f"{self.where(number)} cannot be read ({error.strerror}); copy the folder again"
            ) from error
        if len(payload) < length:
            raise FormatError(f"{self.where(number)}: the file ends too early; copy the folder again")
        if check and zlib.crc32(payload) != record["crc"]:
            raise FormatError(f"{self.where(number)}: payload differs from the index; copy the folder again")
        return payload

    def where(self, number: int) -> str:
        record = self.samples[number]
        return (
            f"{self.folder / shard_name(SPLITS[record['split']], int(record['shard']))}: clip {record['key'].decode()}"
        )


def open_shards(folder: Path | str) -> ShardSet:
    """Open a folder made by `shardify build`, with its tars as they are or unpacked into folders.

    Raises FormatError when it is unfinished, damaged, or shards are missing.
    """
    folder = Path(folder)
    index = read_index(folder)
    names = [shard["name"] for split in index.meta["splits"].values() for shard in split["shards"]]
    present = set(os.listdir(folder))
    missing = [name for name in names if name not in present]
    unpacked = bool(missing) and all(name.removesuffix(".tar") in present for name in names)
    if missing and not unpacked:
        raise FormatError(
            f"{folder}: {missing[0]} is missing ({len(missing)} of {len(names)} shards are); copy the folder again"
        )
    if len(index.samples) == 0:
        raise FormatError(f"{folder}: holds no clip; see samples.csv for the reasons")
    if index.samples["label"].min() < 0 or index.samples["label"].max() >= len(index.classes):
        raise FormatError(
            f"{folder / 'samples.npy'}: has labels outside the {len(index.classes)} classes of index.json"
        )
    settings = index.settings
    return ShardSet(
        folder, index.classes, settings["frames"], settings["size"], settings["codec"], index.samples, unpacked,
        index.meta["sha256"]["samples.npy"],
    )  # fmt: skip


def choose_splits(shards: ShardSet, val_fraction: float, seed: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """Clip numbers for train, val and (where there is one) test, and what the user should know about them.

    Without a val split a share of train is held out by whole groups. Raises FormatError without a train split.
    """
    splits = {name: shards.numbers(name) for name in SPLITS}
    if len(splits["train"]) == 0:
        raise FormatError(f"{shards.folder}: has no train split; build one with train/ or without split folders")
    notes = []
    if len(splits["val"]) == 0:
        splits["train"], splits["val"] = _hold_out(shards, splits["train"], val_fraction, seed)
        notes.append(
            f"no val split: {len(splits['val'])} of {len(shards.numbers('train'))} train clips are held out, "
            f"by whole groups"
        )
    if len(splits["test"]) == 0:
        del splits["test"]
        notes.append("no test split: the final figures are validation's, on which the model was chosen")
    return splits, notes


def _hold_out(shards: ShardSet, train: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold

    labels, groups = shards.samples["label"][train], shards.samples["group"][train]
    if len(np.unique(groups)) < 2:
        raise FormatError(
            f"{shards.folder}: all train clips belong to one group, so none can be held out; build a val split"
        )
    per_class = min(len(np.unique(groups[labels == label])) for label in np.unique(labels))
    folds = round(1 / fraction)
    if per_class >= folds:
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    else:
        splitter = GroupShuffleSplit(1, test_size=fraction, random_state=seed)
    kept, held = next(splitter.split(train, labels, groups))
    return train[kept], train[held]
