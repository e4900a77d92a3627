"""(seed, epoch, rank, world) → the order of samples; a position in it is all that resuming needs."""

from __future__ import annotations

import math

import numpy as np


def epoch_order(numbers: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The numbers in the global order of one epoch: the same for any number of ranks and workers."""
    return np.random.default_rng([seed, epoch]).permutation(numbers)


def num_steps(num_samples: int, batch_size: int) -> int:
    """Steps per epoch, the same on every rank; the last batch may be smaller."""
    return math.ceil(num_samples / batch_size)


def rank_batch(
    order: np.ndarray, step: int, batch_size: int, rank: int = 0, world: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """A rank's part of the step's global batch: numbers int64 (B,), and bool (B,), False where they only pad.

    Every rank gets equally many clips. With 10 clips, a batch size of 4 and 2 ranks:

        step     0          1          2
        rank 0   0 1        4 5        8
        rank 1   2 3        6 7        9
    """
    batch = order[step * batch_size : (step + 1) * batch_size]
    share = math.ceil(len(batch) / world)
    places = np.arange(rank * share, (rank + 1) * share)
    return batch[places % len(batch)], places < len(batch)
