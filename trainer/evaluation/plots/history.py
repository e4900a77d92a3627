"""The plot of a run's training history."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainer.evaluation.plots.drawing import BLACK, TRAIN, VALIDATION, drawing, new_figure, save

COLOURS = {"train": (TRAIN, "#7fb3d5", "#a9cf9b"), "val": (VALIDATION, "#1f618d", "#2e7d32")}  # of one figure each
BEST = {"color": BLACK, "linestyle": ":", "linewidth": 1.2}
MANY_EPOCHS = 50  # above which the points of a curve would touch
OUTLIER = 4.0  # times the 90th percentile: what lies above would flatten all else
NAMES = {
    "auc_roc": "area under ROC", "balanced_accuracy": "balanced accuracy", "f1": "F1", "mae": "mean absolute error",
    "rmse": "root mean squared error", "r2": "R²", "pearson": "correlation",
}  # fmt: skip


def plot_history(
    rows: list[dict], curves: list[str], limits: tuple[float, float] | None, best_epoch: int, path: Path
) -> None:
    """Losses, other columns of the history (`curves`) and the learning rate by epoch.

    limits: of the curves' axis; without them it begins at 0 where no value is negative. What is undefined in every
    epoch is left out; an outlier is marked at the upper edge. best_epoch: is marked; 0 for none.
    """
    epochs, rates = [row["epoch"] for row in rows], [row["lr"] for row in rows]
    unit = f"validation, one every {rows[0]['step']:,} steps" if "step" in rows[0] else "epoch"
    with drawing():
        figure = new_figure(12.5, 3.8)
        losses, others, rate = figure.subplots(1, 3, width_ratios=(1, 1, 0.7))
        edges = np.append(epochs, epochs[-1] + 1) - 0.5
        rate.stairs(rates, edges, baseline=None, color="#444444", linewidth=1.8)
        rate.set_title("Learning rate")
        rate.yaxis.set_major_formatter("{x:.2g}")
        for axis in (losses, others, rate):
            if best_epoch:
                axis.axvline(best_epoch, **BEST)
            axis.set(xlabel=unit, xlim=(edges[0], edges[-1]))
            axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        _draw_columns(losses, rows, ["train_loss", "val_loss"], best_epoch)
        _draw_columns(others, rows, curves, best_epoch)
        rate.set_ylim(0, 1.08 * max(rates) or 1)
        if limits:
            others.set_ylim(*limits)
        save(figure, path, "")


def _draw_columns(axis, rows: list[dict], columns: list[str], best_epoch: int) -> None:
    """Columns train_… and val_… of the history by epoch: a colour for each figure and split."""
    drawn = [name for name in columns if any(row.get(name) is not None for row in rows)]
    figures = list(dict.fromkeys(name.partition("_")[2] for name in drawn))
    epochs = np.array([row["epoch"] for row in rows])
    values = np.array([[np.nan if row.get(name) is None else row[name] for row in rows] for name in drawn], float)
    for name, own in zip(drawn, values, strict=True):
        split, _, figure = name.partition("_")
        colours = COLOURS[split]
        axis.plot(
            epochs, own, marker="." if len(epochs) <= MANY_EPOCHS else None,
            color=colours[figures.index(figure) % len(colours)],
            label=f"{'validation' if split == 'val' else 'train'} {NAMES.get(figure, figure)}",
        )  # fmt: skip
    title = " and ".join(NAMES.get(figure, figure) for figure in figures)
    axis.set_title(title[:1].upper() + title[1:])
    if not drawn:
        return
    _fit_axis(axis, epochs, values)
    if best_epoch:
        axis.plot([], [], **BEST, label=f"best epoch: {best_epoch}")
    axis.legend(fontsize=8.5)


def _fit_axis(axis, epochs: np.ndarray, values: np.ndarray) -> None:
    """From 0 where nothing is negative, with a margin above; outliers do not count, and are marked at the edge."""
    finite = np.isfinite(values)
    if not finite.any() or (values[finite] < 0).any():
        return
    top, usual = values[finite].max(), np.percentile(values[finite], 90)
    if usual > 0 and top > OUTLIER * usual:
        top = 1.5 * usual
        above = finite & (values > top)
        places, label = epochs[above.any(0)], f"above: up to {values[above].max():.3g}"
        axis.plot(places, np.full(len(places), 1.05 * top), "^", color=BLACK, label=label)
    axis.set_ylim(0, 1.08 * top or 1)
