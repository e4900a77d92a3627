"""Pictures of a run: training history, confusion matrix, ROC and precision-recall curves, scores per class."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from sklearn import metrics

matplotlib.use("Agg")  # no display needed
import matplotlib.pyplot as plt

DPI = 130


def plot_history(rows: list[dict], metric: str, path: Path) -> None:
    """Loss, the chosen metric and the learning rate by epoch."""
    epochs = [row["epoch"] for row in rows]
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    for name in ("train_loss", "val_loss"):
        axes[0].plot(epochs, [row[name] for row in rows], marker=".", label=name.replace("_", " "))
    shown = "auc_roc" if metric == "loss" else metric
    for name in dict.fromkeys(("train_accuracy", "val_accuracy", f"val_{shown}")):
        axes[1].plot(epochs, [_number(row[name]) for row in rows], marker=".", label=name.replace("_", " "))
    axes[2].plot(epochs, [row["lr"] for row in rows], marker=".", color="tab:gray")
    for axis, title in zip(axes, ("loss", "accuracy and area under ROC", "learning rate"), strict=True):
        axis.set(title=title, xlabel="epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
    axes[0].legend()
    axes[1].legend(loc="lower right")
    axes[1].set_ylim(0, 1.02)
    axes[2].set_ylim(bottom=0)
    _save(figure, path)


def plot_confusion(labels: np.ndarray, predictions: np.ndarray, classes: list[str], path: Path) -> None:
    size = max(4.0, 1.6 + 0.6 * len(classes))
    figure, axis = plt.subplots(figsize=(size + 0.8, size), layout="constrained")
    metrics.ConfusionMatrixDisplay.from_predictions(
        labels, predictions, labels=range(len(classes)), display_labels=classes, cmap="Blues", ax=axis,
        xticks_rotation="vertical" if len(classes) > 4 else "horizontal",
    )  # fmt: skip
    _save(figure, path)


def plot_curves(labels: np.ndarray, scores: np.ndarray, classes: list[str], path: Path) -> None:
    """ROC and precision-recall: of class 1 with two classes, of each against the rest with more."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    for k in [1] if len(classes) == 2 else range(len(classes)):
        positive = labels == k
        if positive.all() or not positive.any():
            continue  # without both kinds there is no curve
        for axis, display in zip(axes, (metrics.RocCurveDisplay, metrics.PrecisionRecallDisplay), strict=True):
            display.from_predictions(positive, scores[:, k], name=classes[k], ax=axis)
    axes[0].plot([0, 1], [0, 1], linestyle=":", color="gray")
    for axis, title in zip(axes, ("ROC", "precision and recall"), strict=True):
        axis.set_title(title)
        axis.grid(alpha=0.3)
    _save(figure, path)


def plot_scores(labels: np.ndarray, scores: np.ndarray, classes: list[str], path: Path) -> None:
    """How the score of class 1 (with more classes: of the clip's own class) is spread, by class."""
    figure, axis = plt.subplots(figsize=(7, 4.2), layout="constrained")
    binary = len(classes) == 2
    bins = np.linspace(0, 1, 31)
    for k, name in enumerate(classes):
        chosen = scores[labels == k, 1 if binary else k]
        axis.hist(chosen, bins, alpha=0.55, label=f"{name} ({len(chosen)})")
    axis.set(xlabel=f"score of {classes[1]}" if binary else "score of the clip's own class", ylabel="clips")
    axis.legend()
    axis.grid(alpha=0.3)
    _save(figure, path)


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _save(figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
