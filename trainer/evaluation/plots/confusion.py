"""The plot of the confusion matrix: every pair of classes, or with many classes an overview and the worst pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from trainer.evaluation.plots.drawing import BLACK, GREY, VALIDATION, drawing, new_figure, percent, save

MOST_SQUARES = 30  # classes for which every pair has a square with its count
WITH_SHARES = 8  # classes for which there is room for shares as well
MOST_PAIRS = 25  # that are listed


def plot_confusion(
    labels: np.ndarray, predictions: np.ndarray, classes: list[str], path: Path, caption: str = ""
) -> None:
    """Clips by true and predicted class; the colour is the share of the true class.

    labels, predictions: int (N,). Above 30 classes, the picture is of one size and lists the most confused pairs.
    """
    from sklearn import metrics

    counts = metrics.confusion_matrix(labels, predictions, labels=range(len(classes)))
    draw = _draw_squares if len(classes) <= MOST_SQUARES else _draw_overview
    with drawing(classes, **{"axes.grid": False}) as names:
        save(draw(counts, counts / counts.sum(1, keepdims=True).clip(1), names), path, caption)


def _draw_squares(counts: np.ndarray, shares: np.ndarray, names: list[str]) -> Figure:
    longest, num_classes = max(map(len, names)), len(names)
    upright = num_classes > 4 or longest > 10
    # inches, of the squares and of the names
    side, beside = max(2.6, (0.62 if num_classes <= 12 else 0.5) * num_classes), 0.08 * longest
    figure = new_figure(side + beside + 1.6, side + (beside if upright else 0.1) + 0.9)
    axis = figure.subplots()
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        with_share = num_classes <= WITH_SHARES and counts[row].any()
        axis.text(
            column, row, f"{count:,}\n{percent(share)}" if with_share else f"{count:,}", ha="center", va="center",
            color="white" if share > 0.55 else BLACK if count else GREY, fontsize=10 if num_classes < 6 else 8,
        )  # fmt: skip
    ticks = range(num_classes)
    axis.set_xticks(ticks, names, rotation=90 if upright else 0)
    axis.set_yticks(ticks, names)
    between = np.arange(num_classes + 1) - 0.5
    axis.set_xticks(between, minor=True)
    axis.set_yticks(between, minor=True)
    axis.grid(which="minor", color="#c8d0d8", linewidth=0.8)
    axis.tick_params(which="both", length=0)
    axis.spines[:].set_visible(False)
    axis.set(xlabel="predicted", ylabel="true", title="Confusion matrix")
    figure.colorbar(image, ax=axis, shrink=0.8, label="share of the true class")
    return figure


def _draw_overview(counts: np.ndarray, shares: np.ndarray, names: list[str]) -> Figure:
    """All classes by their numbers, and the pairs that are most often confused by their names."""
    figure = new_figure(14, 6.6)
    whole, listed = figure.subplots(1, 2, width_ratios=(1, 0.8))
    image = whole.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1))  # the root: small shares are seen
    whole.set(xlabel="predicted class, by its number", ylabel="true class, by its number", title="Confusion matrix")
    figure.colorbar(image, ax=whole, shrink=0.8, label="share of the true class")
    wrong = counts * (1 - np.eye(len(names), dtype=counts.dtype))
    worst = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [pair for pair in zip(*np.unravel_index(worst, wrong.shape), strict=True) if wrong[pair]]
    places = range(len(pairs))
    bars = listed.barh(places, [wrong[pair] for pair in pairs], color=VALIDATION, height=0.6)
    listed.bar_label(bars, [f"{wrong[pair]:,} ({percent(shares[pair])})" for pair in pairs], padding=3, fontsize=8)
    listed.set_yticks(places, [f"{names[row]}, predicted {names[column]}" for row, column in pairs], fontsize=8)
    listed.set(
        title="Most confused classes" if pairs else "No clip is predicted wrongly",
        xlabel="clips (share of the true class)",
    )
    listed.margins(x=0.2)
    listed.invert_yaxis()
    listed.xaxis.get_major_locator().set_params(integer=True)
    return figure
