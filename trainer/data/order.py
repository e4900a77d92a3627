"""The order of clips in an epoch: a function of seed and epoch, so that a position is all that resuming needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np


def epoch_order(
    numbers: np.ndarray,
    seed: int,
    epoch: int,
    *,
    labels: np.ndarray | None = None,
    folders: np.ndarray | None = None,
    weights: Sequence[float] | None = None,
    shards: np.ndarray | None = None,
    shards_at_once: int = 1,
) -> np.ndarray:
    """The numbers, int64 (N,), in the global order of one epoch: the same for any number of ranks and workers.

    labels: int (N,), draws every class equally often: clips of small classes repeat, of large ones some stay away.
    folders: int (N,), of which folder each clip is, and the weights of the folders: an epoch, still of N clips, takes
    from each in proportion to its weight, and within each by `labels`.
    shards: int (N,), the shard of each clip; clips are then mixed within `shards_at_once` shards, themselves in
    random order and company, so that a slow disk reads few files at a time.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(numbers))
    if weights is not None:
        order = rng.permutation(_weighted(folders, weights, labels, rng))
    elif labels is not None:
        order = rng.permutation(_balanced(labels, len(labels), rng))
    if shards is not None:
        turn = rng.permutation(int(shards.max()) + 1) // shards_at_once
        order = order[np.argsort(turn[shards[order]], kind="stable")]
    return numbers[order]


def interval_order(pass_order: Callable[[int], np.ndarray], length: int, clips: int, interval: int) -> np.ndarray:
    """The numbers, int64 (clips,), of an interval: passes over the data follow one another, cut into equal parts.

    pass_order: the order of a pass by its number, int64 (length,).
    """
    first = interval * clips
    passes = range(first // length, (first + clips - 1) // length + 1)
    whole = np.concatenate([pass_order(number) for number in passes])
    return whole[first - passes[0] * length :][:clips]


def paired_order(pairs: np.ndarray, count: int, seed: int, epoch: int) -> np.ndarray:
    """So many numbers, int64 (count,), in the global order of one epoch: the two of a pair, then those of another.

    pairs: int (P, 2); none is drawn a second time before each has come once.
    """
    chosen = _repeated(np.arange(len(pairs)), math.ceil(count / 2), np.random.default_rng([seed, epoch]))
    return pairs[chosen].reshape(-1)[:count]


def _weighted(
    folders: np.ndarray, weights: Sequence[float], labels: np.ndarray | None, rng: np.random.Generator
) -> np.ndarray:
    """Places into `folders`, as many as it holds, each folder as often as its weight says (to within one)."""
    ends = np.round(np.cumsum(weights) / sum(weights) * len(folders)).astype(int)
    drawn = []
    for folder, count in enumerate(np.diff(ends, prepend=0).tolist()):
        members = np.flatnonzero(folders == folder)
        if labels is not None and count:
            drawn.append(members[_balanced(labels[members], count, rng)])
        else:
            drawn.append(_repeated(members, count, rng))
    return np.concatenate(drawn)


def _balanced(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """So many places into `labels`, every class as often as any other (to within one)."""
    classes = rng.permutation(np.unique(labels))
    quotas = [count // len(classes) + (i < count % len(classes)) for i in range(len(classes))]
    drawn = [_repeated(np.flatnonzero(labels == k), n, rng) for k, n in zip(classes, quotas, strict=True)]
    return np.concatenate(drawn)


def _repeated(members: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """So many of the members, int (count,), none a second time before each has come once."""
    rounds = [rng.permutation(members) for _ in range(math.ceil(count / len(members)))] if count else []
    return np.concatenate([members[:0], *rounds])[:count]


def count_repeats(order: np.ndarray) -> np.ndarray:
    """int64 (N,): how often each number came earlier in the order."""
    places = np.argsort(order, kind="stable")
    is_first = np.append(True, np.diff(order[places]) != 0)
    firsts = np.maximum.accumulate(np.where(is_first, np.arange(len(order)), 0))
    repeats = np.empty(len(order), np.int64)
    repeats[places] = np.arange(len(order)) - firsts
    return repeats


def num_steps(num_samples: int, batch_size: int) -> int:
    """Steps per epoch, the same on every rank; the last batch may be smaller."""
    return math.ceil(num_samples / batch_size)


def rank_batch(
    order: np.ndarray, step: int, batch_size: int, rank: int = 0, world: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """A rank's part of the step's global batch: rows of `order` (B, …), and bool (B,), False where they only pad.

    Every rank gets equally many clips. With 10 clips, a batch size of 4 and 2 ranks:

        step     0          1          2
        rank 0   0 1        4 5        8
        rank 1   2 3        6 7        9
    """
    batch = order[step * batch_size : (step + 1) * batch_size]
    share = math.ceil(len(batch) / world)
    places = np.arange(rank * share, (rank + 1) * share)
    return batch[places % len(batch)], places < len(batch)
