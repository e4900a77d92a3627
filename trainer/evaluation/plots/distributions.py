"""The plots of how scores, and in regression errors, are spread."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainer.evaluation.metrics import predict
from trainer.evaluation.plots.drawing import (
    BLACK,
    COLOURS,
    MANY,
    TRAIN,
    VALIDATION,
    WORST,
    count_clips,
    drawing,
    new_figure,
    percent,
    save,
)

BINS = np.linspace(0, 1, 41)  # of scores: narrow, to see on which side of the threshold a clip is
LOGARITHMIC = 50  # clips in one bar, above which single ones beside it would not be seen


def plot_scores(
    labels: np.ndarray,
    scores: np.ndarray,
    classes: list[str],
    threshold: float | None,
    path: Path,
    caption: str = "",
) -> None:
    """How the score of class 1 (with more classes: of the clip's own class) is spread, one row per class.

    labels: int (N,); scores: float (N, K). From 12 classes on: all clips, and the five classes of the lowest means.
    """
    is_binary = len(classes) == 2
    predicted = predict(scores, threshold)
    own = scores[:, 1] if is_binary else scores[np.arange(len(labels)), labels]
    with drawing(classes) as names:
        rows = [
            (f"{name}: {_counted(labels, predicted, k, names)}", own[labels == k], COLOURS[k % len(COLOURS)])
            for k, name in enumerate(names)
        ]
        if is_binary:
            rows = [(*row[:2], colour) for row, colour in zip(rows, (TRAIN, VALIDATION), strict=True)]
        if len(classes) >= MANY:
            worst = sorted((row for row in rows if len(row[1])), key=lambda row: row[1].mean())[:WORST]
            rows = [(f"all classes: {len(labels):,} clips", own, TRAIN), *worst]
        is_log = max(np.histogram(chosen, BINS)[0].max() for _, chosen, _ in rows) > LOGARITHMIC
        figure = new_figure(7.2, 1.2 + (1.5 if len(rows) <= 4 else 1.1) * len(rows))
        axes = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
        for axis, (title, chosen, colour) in zip(axes, rows, strict=True):
            axis.hist(chosen, BINS, color=colour)
            axis.set_title(title)
            count_clips(axis, is_log)
            if threshold is not None:
                axis.axvline(threshold, color=BLACK, linestyle="--", linewidth=1.2)
        if threshold is not None:
            side = "left" if threshold < 0.5 else "right"
            axes[0].annotate(
                f"threshold {threshold:.3f}", (threshold, 1), xycoords=("data", "axes fraction"), va="top", ha=side,
                xytext=(5 if side == "left" else -5, -2), textcoords="offset points",
            )  # fmt: skip
        of = f"score of {names[1]}" if is_binary else "score of the clip's own class"
        axes[-1].set(xlim=(0, 1), xlabel=of)
        figure.supylabel("clips, on a logarithmic axis" if is_log else "clips", fontsize=9.5)
        save(figure, path, caption)


def _counted(labels: np.ndarray, predicted: np.ndarray, k: int, names: list[str]) -> str:
    """How many clips a class has, and how many of them are predicted as another one."""
    count, wrong = np.count_nonzero(labels == k), np.count_nonzero((labels == k) & (predicted != k))
    other = names[1 - k] if len(names) == 2 else "another class"
    return f"{count:,} clips" + (f", {wrong:,} ({percent(wrong / count)}) predicted as {other}" if wrong else "")


def plot_values(targets: np.ndarray, values: np.ndarray, path: Path, caption: str = "") -> None:
    """Predicted values over targets, and how the errors are spread, in regression; float (N,) each."""
    with drawing():
        figure = new_figure(9.6, 4.6)
        left, right = figure.subplots(1, 2)
        size, alpha = (20, 0.8) if len(targets) <= 500 else (6, 0.35)
        left.scatter(targets, values, s=size, alpha=alpha, color=VALIDATION, linewidths=0)
        ends = [min(targets.min(), values.min()), max(targets.max(), values.max())]
        left.plot(ends, ends, linestyle=":", color=BLACK)
        left.set(title="Predicted over true", xlabel="target", ylabel="predicted", aspect="equal")
        right.hist(values - targets, num_bins(len(targets)), color=TRAIN, edgecolor="white", linewidth=0.5)
        right.axvline(0, linestyle=":", color=BLACK)
        right.set(title="Errors", xlabel="predicted − target", ylabel="clips")
        count_clips(right)
        save(figure, path, caption)


def num_bins(count: int) -> int:
    """The number of bins of a histogram of so many clips: about the square root, from 10 to 40."""
    return int(np.clip(2 * round(np.sqrt(count) / 2), 10, 40))
