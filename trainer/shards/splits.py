"""The splits of a run: the clips to train on, to choose the best epoch by and to test on."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from itertools import islice

import numpy as np

from shardify.format.index import read_meta, read_rows
from shardify.format.synthetic import KIND
from shardify.format.words import SPLITS
from trainer.errors import FormatError
from trainer.shards.shard_set import ShardSet

MOST_FOLDS = 20  # of which some are held out


def choose_splits(
    shards: ShardSet, val_fraction: float, seed: int, by_class: bool = True
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Clip numbers for train, val and (where there is one) test, and what the user should know about them.

    Without a val split a share of train is held out by whole groups, never synthetic clips; by_class: so that train
    keeps every class, and val has each that has a group to spare. Raises FormatError without a train split.
    """
    splits = {name: shards.numbers(name) for name in SPLITS}
    if len(splits["train"]) == 0:
        raise FormatError(f"{shards.name}: has no train split; build one with train/ or without split folders")
    notes = list(shards.notes)
    if len(splits["val"]) == 0:
        whole = splits["train"]
        left_over = np.isin(shards.samples["group"], shards.samples["group"][synthetic_clips(shards)])[whole]
        kept, splits["val"] = _hold_out(shards, whole[~left_over], val_fraction, seed, by_class)
        splits["train"] = np.sort(np.concatenate([kept, whole[left_over]]))
        notes.append(
            f"no val split: {len(splits['val'])} of {len(shards.numbers('train'))} train clips are held out, "
            f"by whole groups"
        )
    if len(splits["test"]) == 0:
        del splits["test"]
        notes.append("no test split: the final figures are validation's, on which the model was chosen")
    return splits, notes


def limit_per_class(shards: ShardSet, numbers: np.ndarray, most: int, seed: int) -> np.ndarray:
    """At most so many clips of each class, int64 (N,), by chance; a larger `most` keeps those of a smaller one."""
    labels = shards.labels[numbers]
    order = np.random.default_rng(seed).permutation(len(numbers))
    chosen = [order[labels[order] == label][:most] for label in np.unique(labels)]
    return numbers[np.sort(np.concatenate(chosen))]


def choose_evenly(numbers: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the numbers, int64 (N,), evenly chosen and in their order."""
    count = min(len(numbers), most)
    return numbers[np.arange(count) * len(numbers) // max(count, 1)]


def synthetic_clips(shards: ShardSet) -> np.ndarray:
    """The numbers of the clips that a build has marked as synthetic, int64 (N,)."""
    found, first = [], 0
    for part in shards.parts or (shards,):
        with contextlib.suppress(FormatError):  # shards of other writers know no such clips
            rows = read_rows(part.tables) if read_meta(part.tables).get("generated") else []
            marked = [row["key"].encode() for row in rows if row["status"] == "ok" and row["kind"] == KIND]
            found.append(first + np.flatnonzero(np.isin(part.samples["key"], marked)))
        first += len(part.samples)
    return np.concatenate([np.zeros(0, np.int64), *found])


def _hold_out(
    shards: ShardSet, train: np.ndarray, fraction: float, seed: int, by_class: bool
) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold

    labels, groups = shards.labels[train], shards.samples["group"][train]
    num_groups = len(np.unique(groups))
    if num_groups < 2:
        raise FormatError(
            f"{shards.name}: all real train clips belong to one group, so none can be held out; build a val split"
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
        raise FormatError(f"{shards.name}: to hold out any group would take a class from train; build a val split")
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
