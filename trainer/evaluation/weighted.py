"""The figures of classification and regression over weighted items: of a whole prediction set, or of many resamples.

An item is a clip or a video. weights, float (N, R), say how often each of N items counts in each of R resamples; ones,
(N, 1), give the figures of the set itself. A figure that is not defined in a resample is NaN there.
"""

from __future__ import annotations

import numpy as np

CALIBRATION_BINS = 15  # Guo et al., "On calibration of modern neural networks" (2017)
FALSE_POSITIVE_RATES = {"tpr_at_fpr_1": 0.01, "tpr_at_fpr_5": 0.05}
CURVE_FIGURES = ("auc", "ap", "eer", *FALSE_POSITIVE_RATES)

Figures = dict[str, np.ndarray]  # by name, float (R,)


def classification_figures(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray, threshold: float | None = None
) -> Figures:
    """Figures over labels int (N,) and class probabilities float (N, K), by name, float (R,) each.

    auc (of the ROC), ap (average precision), eer and tpr_at_fpr_* are those of class 1 of two; with more classes each
    one against the rest, macro averages over the classes that a resample has. balanced_accuracy is the mean recall of
    these. threshold: the score from which class 1 of two is predicted; the largest probability decides without it.
    brier: mean squared distance of the probabilities from the truth, of class 1 of two, else summed over the classes.
    calibration_error: the expected one, over bins of confidence (Guo et al., 2017).
    """
    num_classes, total = scores.shape[1], weights.sum(0)
    truth = np.eye(num_classes)[labels]
    is_right = predict(scores, threshold) == labels
    counts, hits = truth.T @ weights, (truth * is_right[:, None]).T @ weights  # (K, R)
    squares = ((scores - truth) ** 2).sum(1) / (2 if num_classes == 2 else 1)
    with np.errstate(invalid="ignore"):
        recalls = hits / counts
    return {
        **_curve_figures(labels, scores, weights),
        "accuracy": is_right @ weights / total,
        "balanced_accuracy": _mean(recalls),
        "brier": squares @ weights / total,
        "calibration_error": np.abs(_calibration_gaps(labels, scores) @ weights).sum(0) / total,
    }


def macro_f1(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> Figures:
    """f1_macro: the mean of 2·hits / (clips of a class + predictions of it) over the classes that a resample has."""
    every = np.arange(scores.shape[1])
    truth, predicted = labels[:, None] == every, predict(scores)[:, None] == every
    counts, hits = truth.T @ weights, (truth & predicted).T @ weights  # (K, R)
    f1 = 2 * hits / np.maximum(counts + predicted.T @ weights, 1)
    return {"f1_macro": _mean(np.where(counts > 0, f1, np.nan))}


def regression_figures(targets: np.ndarray, values: np.ndarray, weights: np.ndarray) -> Figures:
    """mae, rmse, r2 and Pearson's r over targets and predicted values, float (N,), in the targets' unit."""
    total, errors = weights.sum(0), values - targets
    x, y = targets - targets.mean(), values - values.mean()  # small numbers, so that squares lose no digits
    rows = np.stack([np.abs(errors), errors**2, x, y, x * x, y * y, x * y])
    mae, mse, mean_x, mean_y, xx, yy, xy = rows @ weights / total
    spread_x, spread_y = xx - mean_x**2, yy - mean_y**2
    spread_x[spread_x <= 1e-12 * xx] = np.nan  # targets that are all the same
    spread_y[spread_y <= 1e-12 * yy] = np.nan
    return {
        "mae": mae,
        "rmse": np.sqrt(mse),
        "r2": 1 - mse / spread_x,
        "pearson": (xy - mean_x * mean_y) / np.sqrt(spread_x * spread_y),
    }


def predict(scores: np.ndarray, threshold: float | None = None) -> np.ndarray:
    """The predicted classes, int (N,), of probabilities, float (N, K)."""
    if threshold is None or scores.shape[1] != 2:
        return scores.argmax(1)
    return (scores[:, 1] >= threshold).astype(np.int64)


def binary_figures(is_positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> Figures:
    """CURVE_FIGURES of scores float (N,), the higher the more likely positive; is_positive: bool (N,).

    eer: the rate at which false positives and false negatives are equal. The points of the ROC are joined by straight
    lines, and eer is the false positive rate x at which the true positive rate is 1 - x, as in most published code. The
    nearest point instead would depend on which points of a straight stretch are kept; scikit-learn drops those between
    its ends.
    tpr_at_fpr_1: the largest true positive rate of all thresholds at which the false positive rate is at most 1%, so of
    one that can be set; Keras and torchmetrics define `SensitivityAtSpecificity` so. (On the line between two points it
    would be that of a threshold drawn by chance.)
    """
    steps = _steps(is_positive, scores, weights)
    false_positives, true_positives = steps.cumsum(1)
    negatives, positives = false_positives[-1], true_positives[-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = true_positives / np.maximum(true_positives + false_positives, 1)
        before = true_positives - steps[1]
        figures = {
            "auc": (steps[0] * (before + true_positives)).sum(0) / (2 * positives * negatives),
            "ap": (steps[1] * precision).sum(0) / positives,
            "eer": _equal_error_rate(false_positives / negatives, true_positives / positives),
        }
        for name, rate in FALSE_POSITIVE_RATES.items():
            is_allowed = false_positives <= rate * negatives + 1e-9  # 0.05 · 60 need not be 3
            figures[name] = np.where(is_allowed, true_positives, 0).max(0) / positives
    is_undefined = (negatives == 0) | (positives == 0)
    return {name: np.where(is_undefined, np.nan, values) for name, values in figures.items()}


def _steps(is_positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weights of the negatives and of the positives that each step down the thresholds adds, float (2, S, R).

    A step is a score. Neighbouring scores that only negatives have are one: the ROC is a straight line there, and no
    other figure has a point on it. So a rare class has few steps.
    """
    order = np.lexsort((is_positive, -scores))
    scores, is_positive = scores[order], is_positive[order]
    score = np.append(0, (np.diff(scores) != 0).cumsum())  # which one of the distinct ones
    has_positives = np.bincount(score, is_positive) > 0
    begins = has_positives.copy()  # a step
    begins[1:] |= has_positives[:-1]
    step = (begins.cumsum() - begins[0])[score]
    starts = np.flatnonzero(np.append(True, (np.diff(step) != 0) | (np.diff(is_positive) != 0)))
    steps = np.zeros((2, step[-1] + 1, weights.shape[1]))
    steps[is_positive[starts].astype(int), step[starts]] = np.add.reduceat(weights[order], starts, axis=0)
    return steps


def _equal_error_rate(false_rates: np.ndarray, true_rates: np.ndarray) -> np.ndarray:
    """Where the ROC through points (S, R), and (0, 0) before them, crosses the other diagonal, (R,)."""
    excess = false_rates + true_rates - 1  # of false positives over false negatives; rises from -1 to 1
    after = (excess >= 0).argmax(0)[None]

    def around(values: np.ndarray, at_start: float) -> tuple[np.ndarray, np.ndarray]:
        """The values before and after the crossing."""
        before = np.take_along_axis(values, np.maximum(after - 1, 0), 0)[0]
        return np.where(after[0] == 0, at_start, before), np.take_along_axis(values, after, 0)[0]

    (low, high), (left, right) = around(excess, -1), around(false_rates, 0)
    return left - low / (high - low) * (right - left)


def _curve_figures(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> Figures:
    present = np.unique(labels)
    if len(present) < 2:
        return dict.fromkeys(CURVE_FIGURES, np.full(weights.shape[1], np.nan))
    judged = [1] if scores.shape[1] == 2 else present
    found = [binary_figures(labels == k, scores[:, k], weights) for k in judged]
    return {name: _mean(np.stack([figures[name] for figures in found])) for name in CURVE_FIGURES}


def _calibration_gaps(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Confidence less being right of each item, in the row of its bin of confidence: float (CALIBRATION_BINS, N)."""
    confidence, is_right = scores.max(1), scores.argmax(1) == labels
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return np.eye(CALIBRATION_BINS)[bins].T * (confidence - is_right)


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean over classes (K, R) of those that are defined."""
    is_defined = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(is_defined, values, 0).sum(0) / is_defined.sum(0)
