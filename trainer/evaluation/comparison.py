"""Pictures that compare data sets: their ROC curves, and how a figure falls as clips get worse."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trainer.evaluation.predictions import Scored

STYLE = {
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left", "font.size": 9.5,
    "grid.color": "#e3e3e3", "legend.frameon": False, "text.parse_math": False,  # a $ in a name is a $
}  # fmt: skip
AXES = {
    "jpeg": "JPEG quality", "blur": "blur, σ in pixels", "downscale": "made so many times smaller, and back",
    "noise": "noise, σ as a share of white",
}  # fmt: skip


def plot_rocs(named: Mapping[str, Scored], level: str, path: Path) -> None:
    """The ROC of class 1 of two for each data set by its name, on one picture; level: what the items are, in words."""
    import matplotlib
    from matplotlib.figure import Figure
    from sklearn.metrics import roc_auc_score, roc_curve

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 5.4 + 0.2 * len(named)), layout="constrained")
        axis = figure.subplots()
        for name, items in named.items():
            count = len(items.labels)
            if 0 < items.labels.sum() < count:
                area = roc_auc_score(items.labels, items.scores[:, 1])
                text = f"{name}: AUC {area:.3f}, {count} {level}"
                axis.plot(*roc_curve(items.labels, items.scores[:, 1])[:2], label=f" {text}")
            else:
                axis.plot([], [], label=f" {name}: undefined, all {count} {level} are of one class")
        axis.plot([0, 1], [0, 1], ":", color="#888888", label=" chance")
        axis.set(title="ROC", xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
        axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12))
        figure.savefig(path, dpi=140, bbox_inches="tight")


def plot_robustness(named: Mapping[str, Mapping], headline: str, level: str, path: Path) -> None:
    """The figure `headline` over the strengths of each degradation, a line for each data set.

    named: by the data set, what evaluation.json has as its `robustness`; level: clip or video.
    """
    import matplotlib
    from matplotlib.figure import Figure

    degradations = list(next(iter(named.values())))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(12.5, 3.5 + 0.2 * len(named)), layout="constrained")
        axes = figure.subplots(1, len(degradations), sharey=True)
        for axis, degradation in zip(axes, degradations, strict=True):
            for name, found in named.items():
                strengths = list(found[degradation])
                values = [found[degradation][strength][level] for strength in strengths]
                axis.plot(strengths, [float("nan") if v is None else v for v in values], marker="o", label=f" {name}")
            axis.set(xlabel=AXES[degradation])
            if strengths[0] > strengths[-1]:
                axis.invert_xaxis()  # worse to the right
        axes[0].set(ylabel=f"{headline}, by {level}s")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        figure.savefig(path, dpi=140, bbox_inches="tight")
