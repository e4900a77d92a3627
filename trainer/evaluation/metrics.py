"""The figures of classification and regression, with their intervals, by scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np

CALIBRATION_BINS = 15  # Guo et al., "On calibration of modern neural networks" (2017)
RESAMPLES = 1000  # of the bootstrap
INTERVALS = ("auc_roc", "accuracy", "balanced_accuracy")  # figures of classification that get one
VALUE_INTERVALS = ("mae", "rmse", "r2")  # of regression

Figures = dict[str, float | None]


def classification_metrics(labels: np.ndarray, scores: np.ndarray, threshold: float | None = None) -> Figures:
    """Figures over labels int (N,) and class probabilities float (N, K); None where they are not defined.

    threshold: the score from which class 1 of two is predicted; the largest probability decides without it.
    With two classes, precision, recall, f1 and the areas are those of class 1; with more they are macro averages over
    the classes that have clips. Without clips of class 1, precision, recall and f1 are None: no prediction could raise
    them above 0. A class that has clips and is never predicted has 0.
    """
    from sklearn import metrics

    predictions = predict(scores, threshold)
    judged = [1] if scores.shape[1] == 2 else np.unique(labels)
    precision = recall = f1 = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class without clips or predictions: the figures say so themselves
        if np.isin(labels, judged).any():
            precision, recall, f1, _ = metrics.precision_recall_fscore_support(
                labels, predictions, labels=judged, average="macro", zero_division=0
            )
        figures = {
            "accuracy": metrics.accuracy_score(labels, predictions),
            "balanced_accuracy": metrics.balanced_accuracy_score(labels, predictions),
            "precision": precision,
            "recall": recall,
            "f1": f1,
        }
    figures |= {
        "auc_roc": auc_roc(labels, scores),
        "auc_pr": auc_pr(labels, scores),
        "eer": equal_error_rate(labels, scores),
        "brier": brier_score(labels, scores),
        "calibration_error": calibration_error(labels, scores),
    }
    return {name: None if value is None else float(value) for name, value in figures.items()}


def regression_metrics(targets: np.ndarray, values: np.ndarray) -> Figures:
    """Figures over targets and predicted values, float (N,), in the targets' unit; None where they are not defined."""
    from sklearn import metrics

    has_spread = len(targets) > 1 and np.ptp(targets) > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # equal values correlate with nothing
        pearson = float(np.corrcoef(targets, values)[0, 1]) if has_spread else np.nan
    return {
        "mae": float(metrics.mean_absolute_error(targets, values)),
        "rmse": float(metrics.root_mean_squared_error(targets, values)),
        "r2": float(metrics.r2_score(targets, values)) if has_spread else None,
        "pearson": pearson if np.isfinite(pearson) else None,
    }


def predict(scores: np.ndarray, threshold: float | None = None) -> np.ndarray:
    """The predicted classes, int (N,), of probabilities, float (N, K)."""
    if threshold is None or scores.shape[1] != 2:
        return scores.argmax(1)
    return (scores[:, 1] >= threshold).astype(np.int64)


def auc_roc(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """Area under the ROC curve; one class against the rest, macro, with more than two."""
    from sklearn import metrics

    return _over_classes(metrics.roc_auc_score, labels, scores)


def auc_pr(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """Average precision; one class against the rest, macro, with more than two."""
    from sklearn import metrics

    return _over_classes(metrics.average_precision_score, labels, scores)


def equal_error_rate(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """The rate at which false positives and false negatives are equal, on the line between two points of the ROC.

    One class against the rest, macro, with more than two. The ROC joins its points, so this is the root of
    1 - x - ROC(x), as most published code finds it (by scipy's brentq). Taking the nearest point instead would depend
    on which points of a straight stretch are kept: scikit-learn drops those between its ends.
    """
    return _over_classes(_binary_eer, labels, scores)


def brier_score(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean squared distance of the probabilities from the truth: of class 1 of two, else summed over the classes."""
    squares = ((scores - np.eye(scores.shape[1])[labels]) ** 2).sum(1)
    return float(squares.mean() / (2 if scores.shape[1] == 2 else 1))


def calibration_error(labels: np.ndarray, scores: np.ndarray) -> float:
    """Expected calibration error: mean distance of confidence and accuracy over bins of confidence."""
    confidence, right = scores.max(1), scores.argmax(1) == labels
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, confidence - right, CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(labels))


def best_threshold(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """The score of class 1 from which predicting it gives the best balanced accuracy; None but for two classes.

    Midway to the next lower score: other clips' scores fall on both sides of these.
    """
    from sklearn import metrics

    if scores.shape[1] != 2 or len(np.unique(labels)) < 2:
        return None
    false_alarms, hits, thresholds = metrics.roc_curve(labels, scores[:, 1])
    threshold = min(thresholds[np.argmax(hits - false_alarms)], 1.0)
    below = scores[scores[:, 1] < threshold, 1]
    return float((threshold + below.max()) / 2 if len(below) else threshold)


def classification_intervals(
    labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, threshold: float | None = None
) -> dict[str, list[float] | None]:
    """95% intervals of INTERVALS; labels: int (N,), scores: float (N, K), groups: int (N,)."""
    num_classes = len(np.unique(labels))

    def figures(chosen: np.ndarray) -> list[float] | None:
        """None where the draw lacks a class."""
        drawn, classes = labels[chosen], np.unique(labels[chosen])
        if len(classes) < num_classes:
            return None
        right = predict(scores[chosen], threshold) == drawn
        recalls = np.bincount(drawn, right) / np.bincount(drawn).clip(1)
        auc = _over_classes(_auc_by_ranks, drawn, scores[chosen])
        return [auc, float(right.mean()), float(recalls[classes].mean())]

    return bootstrap_intervals(labels, groups, INTERVALS, figures)


def regression_intervals(targets: np.ndarray, values: np.ndarray, groups: np.ndarray) -> dict[str, list[float] | None]:
    """95% intervals of VALUE_INTERVALS; targets, values: float (N,), groups: int (N,)."""

    def figures(chosen: np.ndarray) -> list[float | None]:
        found = regression_metrics(targets[chosen], values[chosen])
        return [found[name] for name in VALUE_INTERVALS]

    return bootstrap_intervals(targets, groups, VALUE_INTERVALS, figures)


def bootstrap_intervals(
    labels: np.ndarray,
    groups: np.ndarray,
    names: Sequence[str],
    figures: Callable[[np.ndarray], Sequence[float | None] | None],
    seed: int = 0,
) -> dict[str, list[float] | None]:
    """95% percentile intervals of named figures, whole groups resampled: clips of one group are not independent.

    figures: of the clips at these places, int (M,), one by name; None leaves a draw out. The interval is None where
    there is nothing to resample: fewer than two groups, or labels that are all the same.
    """
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    if len(members) < 2 or len(np.unique(labels)) < 2:
        return dict.fromkeys(names)
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(RESAMPLES):
        chosen = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        if (values := figures(chosen)) is not None:
            drawn.append([np.nan if value is None else value for value in values])
    if not drawn:
        return dict.fromkeys(names)
    low, high = np.nanpercentile(np.array(drawn), [2.5, 97.5], axis=0)
    return {name: [float(low[i]), float(high[i])] for i, name in enumerate(names)}


def mean_by_video(videos: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels (V,) and scores float (V, K) of videos from those of their clips: the mean over a video's clips.

    videos: which one each clip comes from, (N,) of anything that can be sorted; labels (N,), scores float (N, K):
    probabilities, in regression values.
    """
    _, first, place, counts = np.unique(videos, return_index=True, return_inverse=True, return_counts=True)
    sums = np.zeros((len(first), scores.shape[1]))
    np.add.at(sums, place, scores)
    return labels[first], sums / counts[:, None]


def softmax(logits: np.ndarray) -> np.ndarray:
    """The probabilities of logits, float (N, K)."""
    from scipy.special import softmax as scipy_softmax

    return scipy_softmax(logits.astype(np.float64), axis=1)


def _auc_by_ranks(is_positive: np.ndarray, scores: np.ndarray) -> float:
    """What `roc_auc_score` gives, by the Mann-Whitney U statistic: that one takes milliseconds to check its inputs."""
    from scipy.stats import rankdata

    is_positive = is_positive.astype(bool)
    positives = np.count_nonzero(is_positive)
    above = rankdata(scores)[is_positive].sum() - positives * (positives + 1) / 2
    return float(above / (positives * (len(scores) - positives)))


def _over_classes(figure: Callable, labels: np.ndarray, scores: np.ndarray) -> float | None:
    present = np.unique(labels)
    if len(present) < 2:
        return None
    if scores.shape[1] == 2:
        return figure(labels, scores[:, 1])
    return float(np.mean([figure(labels == k, scores[:, k]) for k in present]))


def _binary_eer(labels: np.ndarray, scores: np.ndarray) -> float:
    from sklearn import metrics

    false_alarms, hits, _ = metrics.roc_curve(labels, scores)
    excess = false_alarms + hits - 1  # of false alarms over misses; rises from -1 to 1, at every point
    return float(np.interp(0, excess, false_alarms))
