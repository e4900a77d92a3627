"""Labels and scores → the figures people expect, by scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn import metrics


def classification_metrics(labels: np.ndarray, scores: np.ndarray) -> dict[str, float | None]:
    """Figures over labels int (N,) and class probabilities float (N, K); None where they are not defined.

    With two classes, precision, recall, f1 and the areas are those of class 1; with more they are macro averages.
    """
    predictions = scores.argmax(1)
    average = "binary" if scores.shape[1] == 2 else "macro"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class without clips or predictions: the figures say so themselves
        precision, recall, f1, _ = metrics.precision_recall_fscore_support(
            labels, predictions, average=average, zero_division=0
        )
        figures = {
            "accuracy": metrics.accuracy_score(labels, predictions),
            "balanced_accuracy": metrics.balanced_accuracy_score(labels, predictions),
            "precision": precision,
            "recall": recall,
            "f1": f1,
        }
    figures |= {"auc_roc": auc_roc(labels, scores), "auc_pr": auc_pr(labels, scores)}
    return {name: None if value is None else float(value) for name, value in figures.items()}


def auc_roc(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """Area under the ROC curve; one class against the rest, macro, with more than two."""
    present = np.unique(labels)
    if len(present) < 2:
        return None
    if scores.shape[1] == 2:
        return metrics.roc_auc_score(labels, scores[:, 1])
    return float(np.mean([metrics.roc_auc_score(labels == k, scores[:, k]) for k in present]))


def auc_pr(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """Average precision; one class against the rest, macro, with more than two."""
    present = np.unique(labels)
    if len(present) < 2:
        return None
    if scores.shape[1] == 2:
        return metrics.average_precision_score(labels, scores[:, 1])
    return float(np.mean([metrics.average_precision_score(labels == k, scores[:, k]) for k in present]))


def softmax(logits: np.ndarray) -> np.ndarray:
    """float (N, K) logits → probabilities."""
    from scipy.special import softmax as scipy_softmax

    return scipy_softmax(logits.astype(np.float64), axis=1)
