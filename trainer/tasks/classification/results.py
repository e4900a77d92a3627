"""The results of classification for people: the table of predictions, the decision, the worst clips."""

from __future__ import annotations

import html

import numpy as np

from trainer.evaluation.predictions import Ranking
from trainer.evaluation.weighted import predict

MEANINGS = {
    "eer": "equal error rate, at the threshold where the rates of false positives and of false negatives are the same; "
    "0 is best, 0.5 is chance",
    "calibration_error": "the mean distance of confidence from accuracy; at 0, of clips scored 0.8 80% are right",
    "brier": "the mean squared distance of the scores from the truth; 0 is best",
    "tpr_at_fpr_1": "the largest share of true positives at any threshold with at most 1% false positives",
    "tpr_at_fpr_5": "the same at 5%",
}


def table(
    labels: np.ndarray, scores: np.ndarray, classes: list[str], threshold: float | None
) -> list[dict[str, object]]:
    """label, score and prediction of each clip; with more than two classes also every class's score.

    score: the probability of class 1 of two, else of the predicted class. labels: int (N,); scores: float (N, K).
    """
    names = [f"score_{name}" for name in classes] if len(classes) > 2 else []
    rows = []
    for label, score, prediction in zip(labels, scores, predict(scores, threshold).tolist(), strict=True):
        shown = score[prediction if names else 1]
        row = {"label": int(label), "score": f"{shown:.6f}", "prediction": prediction}
        rows.append(row | {name: f"{value:.6f}" for name, value in zip(names, score, strict=False)})
    return rows


def decision_line(num_classes: int, threshold: float | None) -> str:
    """How scores became predictions."""
    if threshold is not None:
        return f"threshold {threshold:.4f}, chosen on validation"
    if num_classes == 2:
        return "no threshold (validation has clips of one class), so the larger probability decides"
    return "the largest probability decides"


def baseline_line(labels: np.ndarray, classes: list[str]) -> str:
    """What always predicting the most frequent class would reach; labels: int (N,)."""
    counts = np.bincount(labels, minlength=len(classes))
    most = int(counts.argmax())
    return (
        f"majority baseline: always predicting {classes[most]} has accuracy {counts[most] / len(labels):.4f} and "
        f"balanced accuracy {1 / np.count_nonzero(counts):.4f}"
    )


def rank_worst(labels: np.ndarray, scores: np.ndarray, classes: list[str], threshold: float | None) -> Ranking:
    """Clips that were predicted wrongly, the surest first, then those that were right by the least."""
    predicted = predict(scores, threshold)
    wrong = int((labels != predicted).sum())
    summary = f"{wrong} of {len(labels)} clips are predicted wrongly" if wrong else "No clip is predicted wrongly"
    return Ranking(
        order=worst_first(labels, scores, predicted),
        shares=1 - scores[np.arange(len(labels)), labels],
        caption=lambda i: caption(classes, int(labels[i]), scores[i], int(predicted[i])),
        summary=f"{summary}. Wrong predictions come first, then right ones, both from the lowest probability of the "
        "true class upwards; the bar is the probability of the other classes.",
    )


def worst_first(labels: np.ndarray, scores: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Places int (N,): wrong predictions before right ones, each by the probability of the true class."""
    return np.lexsort((scores[np.arange(len(labels)), labels], labels == predictions))


def caption(classes: list[str], label: int, scores: np.ndarray, prediction: int) -> str:
    """A clip's classes, the true and the predicted one, and its score, as HTML."""
    names = [html.escape(name) for name in classes]
    kind = "right" if label == prediction else "wrong"
    shown = 1 if len(names) == 2 else prediction
    return (
        f'{names[label]}, predicted <span class="{kind}">{names[prediction]}</span> '
        f"(score of {names[shown]}: {scores[shown]:.3f})"
    )
