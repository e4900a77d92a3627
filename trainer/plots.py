"""Pictures of a run: training history, confusion matrix, ROC and precision-recall curves, scores per class."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from sklearn import metrics

matplotlib.use("Agg")  # no display needed
import matplotlib.pyplot as plt

DPI = 140
STYLE = {
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.edgecolor": "#888888",
    "axes.prop_cycle": plt.cycler(color=plt.get_cmap("tab10").colors), "font.size": 9.5, "grid.color": "#e3e3e3",
    "legend.frameon": False, "lines.linewidth": 1.8, "xtick.color": "#444444", "ytick.color": "#444444",
}  # fmt: skip
TRAIN, VALIDATION = "#7f8c99", "#c0392b"
MANY = 8  # classes, from which on curves are drawn without their names
BINS = np.linspace(0, 1, 41)


def plot_history(rows: list[dict], metric: str, path: Path) -> None:
    """Loss, the chosen metric and the learning rate by epoch."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(12.5, 3.6), layout="constrained", width_ratios=(1, 1, 0.7))
        epochs = [row["epoch"] for row in rows]
        default = "mae" if "val_mae" in rows[0] else "auc_roc"
        shown = default if metric in ("auto", "loss") else metric
        in_training = "mae" if default == "mae" else "accuracy"
        names = dict.fromkeys((f"train_{in_training}", f"val_{in_training}", f"val_{shown}"))
        for axis, columns in ((axes[0], ("train_loss", "val_loss")), (axes[1], names)):
            for name in columns:
                split, _, figure_name = name.partition("_")
                label = f"{'validation' if split == 'val' else split} {NAMES.get(figure_name, figure_name)}"
                is_second = name == f"val_{shown}" and shown != in_training
                style = {"color": VALIDATION if split == "val" else TRAIN, "linestyle": "--" if is_second else "-"}
                axis.plot(epochs, [_number(row.get(name)) for row in rows], marker=".", label=label, **style)
        axes[2].step(epochs, [row["lr"] for row in rows], where="mid", color="#444444")
        titles = ("Loss", f"{_title(in_training)} and {NAMES.get(shown, shown)}", "Learning rate")
        for axis, title in zip(
            axes, titles if shown != in_training else ("Loss", _title(shown), titles[2]), strict=True
        ):
            axis.set(title=title, xlabel="epoch")
            axis.xaxis.get_major_locator().set_params(integer=True)
        if default == "auc_roc":
            axes[1].set_ylim(0, 1.02)
        axes[0].set_ylim(bottom=0)
        axes[2].set_ylim(bottom=0)
        axes[2].ticklabel_format(axis="y", scilimits=(-3, 3))
        axes[0].legend()
        axes[1].legend()
        _save(figure, path)


NAMES = {
    "auc_roc": "area under ROC", "balanced_accuracy": "balanced accuracy", "f1": "F1", "mae": "mean absolute error",
    "rmse": "root mean squared error", "r2": "R²", "pearson": "correlation",
}  # fmt: skip


def plot_confusion(labels: np.ndarray, predictions: np.ndarray, classes: list[str], path: Path) -> None:
    """Counts, and the share of each true class; the colour is the share."""
    counts = metrics.confusion_matrix(labels, predictions, labels=range(len(classes)))
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    side = max(3.4, 1.4 + 0.62 * len(classes))
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, axis = plt.subplots(figsize=(side + 1.3, side), layout="constrained")
        image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            text = f"{count}\n{shares[row, column]:.0%}" if len(classes) <= MANY else str(count)
            colour = "white" if shares[row, column] > 0.55 else "#222222"
            axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=10 if len(classes) < 6 else 8)
        ticks = range(len(classes))
        axis.set_xticks(ticks, classes, rotation=90 if len(classes) > 4 else 0)
        axis.set_yticks(ticks, classes)
        axis.set(xlabel="predicted", ylabel="true", title="Confusion")
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        figure.colorbar(image, ax=axis, shrink=0.8, label="share of the true class")
        _save(figure, path)


def plot_curves(labels: np.ndarray, scores: np.ndarray, classes: list[str], path: Path) -> None:
    """ROC and precision-recall: of class 1 with two classes, of each against the rest with more."""
    shown = [1] if len(classes) == 2 else range(len(classes))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(9.6, 4.5), layout="constrained")
        for k in shown:
            positive = labels == k
            if positive.all() or not positive.any():
                continue  # without both kinds there is no curve
            false_alarms, hits, _ = metrics.roc_curve(positive, scores[:, k])
            precision, recall, _ = metrics.precision_recall_curve(positive, scores[:, k])
            areas = (
                metrics.roc_auc_score(positive, scores[:, k]),
                metrics.average_precision_score(positive, scores[:, k]),
            )
            names = [f"{classes[k]}  {area:.3f}" for area in areas]
            style = {"color": plt.get_cmap("tab20")(k % 20)} if len(classes) > 2 else {"color": VALIDATION}
            axes[0].plot(false_alarms, hits, label=names[0], **style)
            axes[1].plot(recall, precision, label=names[1], drawstyle="steps-post", **style)
        axes[0].plot([0, 1], [0, 1], linestyle=":", color="#888888", label="chance")
        share = np.mean(labels == 1)
        if len(classes) == 2:
            axes[1].axhline(share, linestyle=":", color="#888888", label="chance")
        axes[0].set(title="ROC, area below", xlabel="share of false alarms", ylabel="share of hits")
        axes[1].set(title="Precision and recall, average precision", xlabel="recall", ylabel="precision")
        for axis, place in zip(axes, ("lower right", "lower left"), strict=True):
            axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
            if axis.get_legend_handles_labels()[0]:
                axis.legend(
                    loc=place, fontsize=9 if len(classes) <= MANY else 7, ncols=1 if len(classes) <= MANY else 2
                )
        _save(figure, path)


def plot_scores(
    labels: np.ndarray, scores: np.ndarray, classes: list[str], threshold: float | None, path: Path
) -> None:
    """How the score of class 1 (with more classes: of the clip's own class) is spread, one row per class."""
    is_binary = len(classes) == 2
    with plt.rc_context(STYLE):
        height = 1.1 + (1.5 if len(classes) <= MANY else 0.8) * len(classes)
        figure, axes = plt.subplots(
            len(classes), 1, figsize=(7.2, height), sharex=True, layout="constrained", squeeze=False
        )
        for k, (axis, name) in enumerate(zip(axes[:, 0], classes, strict=True)):
            chosen = scores[labels == k, 1 if is_binary else k]
            axis.hist(chosen, BINS, color=(TRAIN, VALIDATION)[k] if is_binary else plt.get_cmap("tab20")(k % 20))
            axis.set_title(f"{name}, {len(chosen)} clips")
            axis.yaxis.get_major_locator().set_params(integer=True, nbins=4)
            if threshold is not None:
                axis.axvline(threshold, color="#222222", linestyle="--", linewidth=1.2)
        if threshold is not None:
            side = "left" if threshold < 0.5 else "right"
            axes[0, 0].annotate(
                f"threshold {threshold:.3f}", (threshold, 1), xycoords=("data", "axes fraction"), va="top", ha=side,
                xytext=(5 if side == "left" else -5, -2), textcoords="offset points",
            )  # fmt: skip
        axes[-1, 0].set(xlim=(0, 1), xlabel=f"score of {classes[1]}" if is_binary else "score of the clip's own class")
        figure.supylabel("clips", fontsize=9.5)
        _save(figure, path)


def plot_values(targets: np.ndarray, values: np.ndarray, path: Path) -> None:
    """In regression: predicted values over targets, and how the errors are spread."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(9.6, 4.2), layout="constrained")
        ends = [min(targets.min(), values.min()), max(targets.max(), values.max())]
        axes[0].plot(ends, ends, linestyle=":", color="#888888")
        axes[0].scatter(targets, values, s=14, alpha=0.6, color=VALIDATION, linewidths=0)
        axes[0].set(title="Predicted over true", xlabel="target", ylabel="predicted")
        axes[1].hist(values - targets, 40, color=TRAIN)
        axes[1].axvline(0, linestyle=":", color="#888888")
        axes[1].set(title="Errors", xlabel="predicted − target", ylabel="clips")
        _save(figure, path)


def _title(name: str) -> str:
    text = NAMES.get(name, name)
    return text[0].upper() + text[1:]


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _save(figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
