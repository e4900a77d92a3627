"""Plots that compare data sets: their ROC curves, and how a figure falls as clips get worse."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trainer.evaluation.plots.drawing import GREY, drawing, new_figure, save
from trainer.evaluation.predictions import Scored

AXES = {
    "jpeg": "JPEG quality", "blur": "blur, σ in pixels", "downscale": "made so many times smaller, and back",
    "noise": "noise, σ as a share of white",
}  # fmt: skip


def plot_rocs(named: Mapping[str, Scored], level: str, path: Path) -> None:
    """The ROC of class 1 of two for each data set by its name, on one picture; level: what the items are, in words."""
    from sklearn.metrics import roc_auc_score, roc_curve

    with drawing(list(named)) as names:
        figure = new_figure(6.4, 5.4 + 0.2 * len(named))
        axis = figure.subplots()
        for name, items in zip(names, named.values(), strict=True):
            count = len(items.labels)
            if 0 < items.labels.sum() < count:
                area = roc_auc_score(items.labels, items.scores[:, 1])
                text = f"{name}: AUC {area:.3f}, {count} {level}"
                axis.plot(*roc_curve(items.labels, items.scores[:, 1])[:2], label=f" {text}")
            else:
                axis.plot([], [], label=f" {name}: undefined, all {count} {level} are of one class")
        axis.plot([0, 1], [0, 1], ":", color=GREY, label=" chance")
        axis.set(title="ROC curves", xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
        axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12))
        save(figure, path)


def plot_robustness(named: Mapping[str, Mapping], headline: str, level: str, path: Path) -> None:
    """The figure `headline` over the strengths of each degradation, a line for each data set.

    named: by the data set, what evaluation.json has as its `robustness`; level: clip or video.
    """
    degradations = list(next(iter(named.values())))
    with drawing(list(named)) as names:
        figure = new_figure(12.5, 3.5 + 0.2 * len(named))
        axes = figure.subplots(1, len(degradations), sharey=True)
        for axis, degradation in zip(axes, degradations, strict=True):
            for name, found in zip(names, named.values(), strict=True):
                strengths = list(found[degradation])
                values = [found[degradation][strength][level] for strength in strengths]
                axis.plot(strengths, [float("nan") if v is None else v for v in values], marker="o", label=f" {name}")
            axis.set(xlabel=AXES[degradation])
            if strengths[0] > strengths[-1]:
                axis.invert_xaxis()  # worse to the right
        axes[0].set(ylabel=f"{headline}, by {level}s")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        save(figure, path)
