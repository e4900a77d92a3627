"""The plot of ROC and precision-recall curves."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from trainer.evaluation.plots.drawing import (
    BLACK,
    COLOURS,
    GREY,
    MANY,
    VALIDATION,
    WORST,
    drawing,
    new_figure,
    save,
)

GRID = np.linspace(0, 1, 501)  # on which curves are averaged


class Curve(NamedTuple):
    """One curve of one class against the others; steps: y holds from each x, which fall, to the next."""

    name: str
    colour: object
    x: np.ndarray
    y: np.ndarray
    area: float
    has_steps: bool

    def at(self, grid: np.ndarray) -> np.ndarray:
        """y at these x, which rise."""
        if not self.has_steps:
            return np.interp(grid, self.x, self.y)
        return self.y[::-1][np.searchsorted(self.x[::-1], grid).clip(max=len(self.x) - 1)]


def plot_curves(
    labels: np.ndarray,
    scores: np.ndarray,
    classes: list[str],
    threshold: float | None,
    path: Path,
    caption: str = "",
) -> None:
    """ROC and precision-recall: of class 1 with two classes, with more of each against the rest.

    labels: int (N,); scores: float (N, K). A class without clips, or of all clips, has no curve. From 12 classes on,
    their mean and the five of the smallest areas have names. threshold: of class 1 of two; its point is marked.
    """
    is_binary = len(classes) == 2
    with drawing(classes) as names:
        shown = [1] if is_binary else range(len(classes))
        defined = [k for k in shown if 0 < np.count_nonzero(labels == k) < len(labels)]
        undefined = [names[k] for k in shown if k not in defined]
        lines = 3 if is_binary else min(len(classes), WORST + 3) + 1
        figure = new_figure(9.6, 5.0 + 0.19 * lines)
        left, right = figure.subplots(1, 2)
        colours = {k: VALIDATION if is_binary else COLOURS[k % len(COLOURS)] for k in defined}
        own = [(names[k], colours[k], labels == k, scores[:, k]) for k in defined]
        _draw_curves(left, [_roc(*each) for each in own], undefined, "AUC")
        _draw_curves(right, [_precision_recall(*each) for each in own], undefined, "AP")
        if defined:
            left.plot([0, 1], [0, 1], linestyle=":", color=GREY, label="chance")
        else:
            for axis in (left, right):
                axis.text(0.5, 0.5, f"undefined: all clips are {names[labels[0]]}", ha="center")
        if is_binary and defined:
            right.axhline(np.mean(labels == 1), linestyle=":", color=GREY, label="chance")
            if threshold is not None:
                _mark_threshold(left, right, labels == 1, scores[:, 1] >= threshold, f"threshold {threshold:.3f}")
        left.set(title="ROC curve", xlabel="false positive rate", ylabel="true positive rate")
        right.set(title="Precision-recall curve", xlabel="recall", ylabel="precision")
        for axis in (left, right):
            axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), borderaxespad=0)  # below, where no curve runs
        save(figure, path, caption)


def _draw_curves(axis, curves: list[Curve], undefined: list[str], area: str) -> None:
    """The curves, the largest area first in the legend; with many classes their mean and the worst."""
    curves = sorted(curves, key=lambda curve: -curve.area)
    num_classes = len(curves) + len(undefined)
    named = curves
    if num_classes >= MANY and curves:
        named, others = curves[-WORST:], curves[:-WORST]
        for i, curve in enumerate(others):
            label = None if i else f"{len(others)} other classes  {area} {others[-1].area:.3f} to {others[0].area:.3f}"
            _draw_curve(axis, curve, label, "#c4c9ce", 0.7)
        mean = np.mean([curve.at(GRID) for curve in curves], axis=0)
        label = f"mean of {len(curves)} classes  {area} {np.mean([curve.area for curve in curves]):.3f}"
        axis.plot(GRID, mean, color=BLACK, linewidth=2.6, label=label)
        axis.plot([], [], linestyle="none", label="classes of the smallest areas:")
    for i, curve in enumerate(named):
        colour = COLOURS[i] if named is not curves else curve.colour  # five that differ
        _draw_curve(axis, curve, _label(f"{curve.name}  {area} {curve.area:.3f}"), colour)
    if len(undefined) < MANY:
        for name in undefined:
            axis.plot([], [], color=GREY, label=_label(f"{name}  undefined"))
    else:
        axis.plot([], [], color=GREY, label=f"{len(undefined)} classes  undefined")


def _draw_curve(axis, curve: Curve, label: str | None, colour: object, width: float = 1.8) -> None:
    style = "steps-post" if curve.has_steps else "default"
    axis.plot(curve.x, curve.y, drawstyle=style, label=label, color=colour, linewidth=width)


def _mark_threshold(left, right, positive: np.ndarray, predicted: np.ndarray, label: str) -> None:
    """The point of each curve at which the threshold decides; positive, predicted: bool (N,)."""
    point = {"marker": "o", "color": BLACK, "linestyle": "none", "markersize": 6, "zorder": 5, "label": label}
    recall = predicted[positive].mean()
    left.plot(predicted[~positive].mean(), recall, **point)
    if predicted.any():
        right.plot(recall, positive[predicted].mean(), **point)


def _roc(name: str, colour: object, positive: np.ndarray, scores: np.ndarray) -> Curve:
    from sklearn import metrics

    false_positives, true_positives, _ = metrics.roc_curve(positive, scores)
    area = metrics.roc_auc_score(positive, scores)
    return Curve(name, colour, false_positives, true_positives, area, has_steps=False)


def _precision_recall(name: str, colour: object, positive: np.ndarray, scores: np.ndarray) -> Curve:
    from sklearn import metrics

    area = metrics.average_precision_score(positive, scores)
    return Curve(name, colour, *precision_steps(positive, scores), area, has_steps=True)


def precision_steps(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall, falling to 0, and the precision that holds from each on: the steps whose area is the average precision.

    scikit-learn's points have, besides, a made-up one at recall 0 and those that reach no further recall; drawn, they
    are vertical lines that mean nothing.
    """
    from sklearn import metrics

    precision, recall, _ = metrics.precision_recall_curve(positive, scores)
    reaches = np.flatnonzero(recall[:-1] > recall[1:])
    return np.append(recall[reaches], 0), np.append(precision[reaches], precision[reaches[-1]])


def _label(text: str) -> str:
    """matplotlib leaves labels that begin with an underscore out of the legend."""
    return f" {text}" if text.startswith("_") else text
