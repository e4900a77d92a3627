"""Test AUC of demo runs per kind of fake, with 95% bootstrap intervals: python scripts/demo_report.py RUN [RUN ...]"""

from __future__ import annotations

import csv
import sys
from pathlib import Path, PurePosixPath

import numpy as np
from scipy.stats import bootstrap, rankdata

KINDS = ("spatial", "flicker", "order")


def read_scores(run: Path) -> dict[str, np.ndarray]:
    """kind → scores of its test clips; the kind is the first word of the file name."""
    scores: dict[str, list[float]] = {}
    with (run / "results" / "test_predictions.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            scores.setdefault(PurePosixPath(row["source"]).name.split("_")[0], []).append(float(row["score"]))
    return {kind: np.array(values) for kind, values in scores.items()}


def auc(real: np.ndarray, fake: np.ndarray, axis: int = -1) -> np.ndarray:
    """The share of pairs in which the fake scores higher, from ranks (Mann-Whitney U); over all resamples at once."""
    ranks = rankdata(np.concatenate([real, fake], axis), axis=axis)
    num_real, num_fake = real.shape[axis], fake.shape[axis]
    of_fakes = ranks.take(range(num_real, num_real + num_fake), axis).sum(axis)
    return (of_fakes - num_fake * (num_fake + 1) / 2) / (num_real * num_fake)


def interval(real: np.ndarray, fake: np.ndarray) -> tuple[float, float, float]:
    """AUC and its 95% percentile bootstrap interval, real and fake clips resampled apart."""
    found = bootstrap((real, fake), auc, n_resamples=1000, vectorized=True, method="percentile", rng=0)
    return float(auc(real, fake)), found.confidence_interval.low, found.confidence_interval.high


def main(runs: list[str]) -> None:
    print("Test AUC, 95% interval; each kind of fake against all real clips")
    width = max([24, *(len(run) + 2 for run in runs)])
    print(f"{'run':<{width}}{'all':>22}" + "".join(f"{kind:>22}" for kind in KINDS))
    for run in runs:
        scores = read_scores(Path(run))
        real = scores["real"]
        columns = [np.concatenate([scores[kind] for kind in KINDS]), *(scores[kind] for kind in KINDS)]
        cells = ["{:.3f} ({:.3f}-{:.3f})".format(*interval(real, fake)) for fake in columns]
        print(f"{run:<{width}}" + "".join(f"{cell:>22}" for cell in cells))


if __name__ == "__main__":
    main(sys.argv[1:])
