"""Plots of a run (history, confusion matrix, ROC and precision-recall curves, scores, values) and of data sets."""

from trainer.evaluation.plots.comparison import plot_robustness, plot_rocs
from trainer.evaluation.plots.confusion import plot_confusion
from trainer.evaluation.plots.curves import plot_curves
from trainer.evaluation.plots.distributions import plot_scores, plot_values
from trainer.evaluation.plots.history import plot_history

__all__ = [
    "plot_confusion",
    "plot_curves",
    "plot_history",
    "plot_robustness",
    "plot_rocs",
    "plot_scores",
    "plot_values",
]
