"""The statistics of the study: intervals over seeds, paired differences, and what may be said of them.

Shapes: S seeds, N test pictures, R resamples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

RESAMPLES, AT_ONCE = 10_000, 500  # of the bootstrap
LEVEL = 0.05  # of all comparisons together; of the control for itself
WORDS = ("helps", "hurts", "no difference shown")


@dataclass(frozen=True)
class Difference:
    """How much more often one arm is right than another on the same pictures."""

    value: float  # of the accuracies
    interval: tuple[float, float]  # 95%
    p: float  # two-sided, of this comparison alone


def seed_interval(accuracies: np.ndarray) -> tuple[float, float] | None:
    """The 95% interval of the mean of the accuracies (S,) by Student's t; None for a single seed."""
    from scipy.stats import t

    if len(accuracies) < 2:
        return None
    half = t.ppf(0.975, len(accuracies) - 1) * accuracies.std(ddof=1) / math.sqrt(len(accuracies))
    return float(accuracies.mean() - half), float(accuracies.mean() + half)


def paired_difference(correct: np.ndarray, reference: np.ndarray, recordings: np.ndarray) -> Difference:
    """How much `correct` is above `reference`, bool (S, N) each, on the same pictures; rows of one seed are pairs.

    Where the seeds are others, as the control's are, which rows are pairs is of no meaning, and does no harm.
    Bootstrap over seeds and over recordings, (N,) of anything that can be sorted, both drawn whole and for both arms
    alike. A resample of S values varies (S - 1) / S as much as they do, so the seeds' distances from their mean are
    first made larger by the root of that. Where seeds differ little the interval is too wide, since a picture's own
    chance counts in both draws (Owen, "The pigeonhole bootstrap", 2007); of three seeds that differ by four points it
    misses in 9% of cases, not 5%. With a single seed only the recordings are drawn.
    """
    place = np.unique(recordings, return_inverse=True)[1]
    sizes = np.bincount(place)
    gained = np.stack([np.bincount(place, row) for row in correct.astype(float) - reference])  # (S, recordings)
    value, seeds = float(gained.sum() / (len(gained) * sizes.sum())), len(gained)
    if seeds > 1:
        gained = gained.mean(0) + math.sqrt(seeds / (seeds - 1)) * (gained - gained.mean(0))
    rng = np.random.default_rng(0)
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES)  # (R, S): how often each is drawn
    found = []
    for some in np.split(of_seeds, RESAMPLES // AT_ONCE):  # all at once take a GB of 5,000 recordings
        of_recordings = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), AT_ONCE)
        found.append(((some @ gained) * of_recordings).sum(1) / (seeds * (of_recordings @ sizes)))
    found = np.concatenate(found)
    low, high = np.percentile(found, [2.5, 97.5])
    tail = min((found <= 0).sum(), (found >= 0).sum())
    return Difference(value, (float(low), float(high)), float(min(1, 2 * (tail + 1) / (RESAMPLES + 1))))


def holm(p_values: list[float]) -> list[float]:
    """The p-values adjusted for there being several: Holm, "A simple sequentially rejective procedure" (1979)."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def in_words(value: float, adjusted_p: float) -> str:
    """One of WORDS: nothing else is said of a difference."""
    if adjusted_p >= LEVEL:
        return WORDS[2]
    return WORDS[0] if value > 0 else WORDS[1]
