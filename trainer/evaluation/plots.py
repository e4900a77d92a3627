"""Plots of a run: training history, confusion matrix, ROC and precision-recall curves, scores, values."""

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
    "text.parse_math": False,  # a $ in a class's name is a $
}  # fmt: skip
TRAIN, VALIDATION = "#7f8c99", "#c0392b"
PAIRS = plt.get_cmap("tab20").colors
COLOURS = PAIRS[0::2] + PAIRS[1::2]  # of classes: ten that differ clearly (tab10), then paler versions of them
MANY = 8  # classes, from which on there is no room for shares and tall rows
LONGEST_NAME = 30  # characters
BINS = np.linspace(0, 1, 41)  # of scores: narrow, to see on which side of the threshold a clip is
NAMES = {
    "auc_roc": "area under ROC", "balanced_accuracy": "balanced accuracy", "f1": "F1", "mae": "mean absolute error",
    "rmse": "root mean squared error", "r2": "R²", "pearson": "correlation",
}  # fmt: skip


def plot_history(rows: list[dict], curves: list[str], limits: tuple[float, float] | None, path: Path) -> None:
    """Losses, other columns of the history (`curves`) and the learning rate by epoch.

    limits: of the curves' axis. What is undefined in every epoch is left out.
    """
    epochs, rates = [row["epoch"] for row in rows], [row["lr"] for row in rows]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(12.5, 3.6), layout="constrained", width_ratios=(1, 1, 0.7))
        _draw_columns(axes[0], rows, ["train_loss", "val_loss"])
        _draw_columns(axes[1], rows, curves)
        edges = np.append(epochs, epochs[-1] + 1) - 0.5
        axes[2].stairs(rates, edges, baseline=None, color="#444444", linewidth=1.8)
        axes[2].set_title("Learning rate")
        axes[2].yaxis.set_major_formatter("{x:.2g}")
        for axis in axes:
            axis.set(xlabel="epoch", xlim=(edges[0], edges[-1]))
            axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        if limits:
            axes[1].set_ylim(*limits)
        for axis in axes[[0, 2]]:
            axis.update_datalim([(epochs[0], 0)])  # the margin above is then one of the whole axis
            axis.autoscale_view()
            axis.set_ylim(bottom=0)
        _save(figure, path)


def _draw_columns(axis, rows: list[dict], columns: list[str]) -> None:
    """Columns train_… and val_… of the history by epoch; of the same split, the second is dashed."""
    drawn = [name for name in columns if any(row.get(name) is not None for row in rows)]
    splits = [name.partition("_")[0] for name in drawn]
    figures = [NAMES.get(name, name) for name in (name.partition("_")[2] for name in drawn)]
    for i, name in enumerate(drawn):
        values = [np.nan if row.get(name) is None else row[name] for row in rows]
        is_val = splits[i] == "val"
        axis.plot(
            [row["epoch"] for row in rows], values, "--" if splits[i] in splits[:i] else "-", marker=".",
            color=VALIDATION if is_val else TRAIN, label=f"{'validation' if is_val else 'train'} {figures[i]}",
        )  # fmt: skip
    title = " and ".join(dict.fromkeys(figures))
    axis.set_title(title[:1].upper() + title[1:])
    if drawn:
        axis.legend()


def plot_confusion(labels: np.ndarray, predictions: np.ndarray, classes: list[str], path: Path) -> None:
    """Counts, and the share of each true class; the colour is the share."""
    counts = metrics.confusion_matrix(labels, predictions, labels=range(len(classes)))
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    names = [_short(name) for name in classes]
    longest = max(map(len, names))
    upright = len(classes) > 4 or longest > 10
    side, beside = max(2.6, 0.62 * len(classes)), 0.08 * longest  # inches, of the squares and of the names
    with plt.rc_context(STYLE | {"axes.grid": False}):
        size = (side + beside + 1.6, side + (beside if upright else 0.1) + 0.8)
        figure, axis = plt.subplots(figsize=size, layout="constrained")
        image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            text = f"{count}\n{shares[row, column]:.0%}" if len(classes) <= MANY and counts[row].any() else str(count)
            colour = "white" if shares[row, column] > 0.55 else "#222222"
            axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=10 if len(classes) < 6 else 8)
        ticks = range(len(classes))
        axis.set_xticks(ticks, names, rotation=90 if upright else 0)
        axis.set_yticks(ticks, names)
        axis.set(xlabel="predicted", ylabel="true", title="Confusion")
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        figure.colorbar(image, ax=axis, shrink=0.8, label="share of the true class")
        _save(figure, path)


def plot_curves(labels: np.ndarray, scores: np.ndarray, classes: list[str], path: Path) -> None:
    """ROC and precision-recall: of class 1 with two classes, of each against the rest with more.

    The names are below, where no curve can run; a class without clips, or of all clips, has none.
    """
    is_binary = len(classes) == 2
    shown = [1] if is_binary else range(len(classes))
    with plt.rc_context(STYLE):
        lines = 1 if is_binary else len(classes) + 1
        figure, axes = plt.subplots(1, 2, figsize=(9.6, 4.9 + 0.19 * lines), layout="constrained")
        for k in shown:
            positive, name = labels == k, classes[k]
            style = {"color": VALIDATION if is_binary else COLOURS[k % len(COLOURS)]}
            if positive.all() or not positive.any():
                for axis in axes:
                    axis.plot([], [], label=_label(name, "undefined"), **style)
                continue
            false_alarms, hits, _ = metrics.roc_curve(positive, scores[:, k])
            area = metrics.roc_auc_score(positive, scores[:, k])
            axes[0].plot(false_alarms, hits, label=_label(name, f"{area:.3f}"), **style)
            area = metrics.average_precision_score(positive, scores[:, k])
            steps = precision_steps(positive, scores[:, k])
            axes[1].plot(*steps, label=_label(name, f"{area:.3f}"), drawstyle="steps-post", **style)
        if len(np.unique(labels)) < 2:
            for axis in axes:
                axis.text(0.5, 0.5, f"undefined: all clips are {_short(classes[labels[0]])}", ha="center")
        else:
            axes[0].plot([0, 1], [0, 1], linestyle=":", color="#888888", label="chance")
        if is_binary and 0 < labels.sum() < len(labels):
            axes[1].axhline(np.mean(labels == 1), linestyle=":", color="#888888", label="chance")
        axes[0].set(title="ROC, area below", xlabel="share of false alarms", ylabel="share of hits")
        axes[1].set(title="Precision and recall, average precision", xlabel="recall", ylabel="precision")
        for axis in axes:
            axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2 if is_binary else 1, borderaxespad=0)
        _save(figure, path)


def precision_steps(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall, falling to 0, and the precision that holds from each on: the steps whose area is the average precision.

    scikit-learn's points have, besides, a made-up one at recall 0 and those that reach no further recall; drawn, they
    are vertical lines that mean nothing.
    """
    precision, recall, _ = metrics.precision_recall_curve(positive, scores)
    reaches = np.flatnonzero(recall[:-1] > recall[1:])
    return np.append(recall[reaches], 0), np.append(precision[reaches], precision[reaches[-1]])


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
            axis.hist(chosen, BINS, color=(TRAIN, VALIDATION)[k] if is_binary else COLOURS[k % len(COLOURS)])
            axis.set_title(f"{_short(name)}, {len(chosen)} clips")
            _count_clips(axis)
            if threshold is not None:
                axis.axvline(threshold, color="#222222", linestyle="--", linewidth=1.2)
        if threshold is not None:
            side = "left" if threshold < 0.5 else "right"
            axes[0, 0].annotate(
                f"threshold {threshold:.3f}", (threshold, 1), xycoords=("data", "axes fraction"), va="top", ha=side,
                xytext=(5 if side == "left" else -5, -2), textcoords="offset points",
            )  # fmt: skip
        of = f"score of {_short(classes[1])}" if is_binary else "score of the clip's own class"
        axes[-1, 0].set(xlim=(0, 1), xlabel=of)
        figure.supylabel("clips", fontsize=9.5)
        _save(figure, path)


def plot_values(targets: np.ndarray, values: np.ndarray, path: Path) -> None:
    """Predicted values over targets, and how the errors are spread, in regression."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(9.6, 4.4), layout="constrained")
        size, alpha = (20, 0.8) if len(targets) <= 500 else (6, 0.35)
        axes[0].scatter(targets, values, s=size, alpha=alpha, color=VALIDATION, linewidths=0)
        ends = [min(targets.min(), values.min()), max(targets.max(), values.max())]
        axes[0].plot(ends, ends, linestyle=":", color="#222222")
        axes[0].set(title="Predicted over true", xlabel="target", ylabel="predicted", aspect="equal")
        axes[1].hist(values - targets, num_bins(len(targets)), color=TRAIN, edgecolor="white", linewidth=0.5)
        axes[1].axvline(0, linestyle=":", color="#222222")
        axes[1].set(title="Errors", xlabel="predicted − target", ylabel="clips")
        _count_clips(axes[1])
        _save(figure, path)


def num_bins(count: int) -> int:
    """The number of bins of a histogram of so many clips: about the square root, from 10 to 40."""
    return int(np.clip(2 * round(np.sqrt(count) / 2), 10, 40))


def _count_clips(axis) -> None:
    axis.yaxis.get_major_locator().set_params(integer=True, nbins=4)
    axis.set_ylim(0, max(1, axis.get_ylim()[1]))  # where there are none, too


def _label(name: str, figure: str) -> str:
    """Of a curve; matplotlib leaves those that begin with an underscore out of the legend."""
    text = f"{_short(name)}  {figure}"
    return f" {text}" if text.startswith("_") else text


def _short(name: str) -> str:
    """A class's name, in one line that can be drawn."""
    name = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name)
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 11]}…{name[-10:]}"


def _save(figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, bbox_inches="tight")  # never cuts a legend or a long name
    plt.close(figure)
