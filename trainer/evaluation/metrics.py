"""The figures of predictions with their intervals, the thresholds and the temperature that validation chooses."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

import numpy as np

from trainer.evaluation import weighted
from trainer.evaluation.weighted import predict

logger = logging.getLogger(__name__)

RESAMPLES = 1000  # of the bootstrap
CHUNK_VALUES = 1 << 21  # weights that are looked at at once: 16 MB, and some ten arrays of that size
LINE_SECONDS = 5.0  # between two lines on how far the resamples are
TEMPERATURES = (0.05, 20.0)  # between which one is looked for
BEST_PSNR = 100.0  # dB, of pictures that are the same

Figures = dict[str, float | None]  # None where one is not defined
Intervals = dict[str, list[float] | None]  # [low, high]
Measures = dict[str, dict[str, float | list[float] | None]]  # figure: its `value` and `interval`


def classification_metrics(labels: np.ndarray, scores: np.ndarray, threshold: float | None = None) -> Figures:
    """Figures over labels int (N,) and class probabilities float (N, K); see `weighted.classification_figures`.

    threshold: the score from which class 1 of two is predicted; the largest probability decides without it.
    """
    return _figures(weighted.classification_figures, labels, scores, threshold)


def regression_metrics(targets: np.ndarray, values: np.ndarray) -> Figures:
    """Figures over targets and predicted values, float (N,), in the targets' unit."""
    return _figures(weighted.regression_figures, targets, values)


def class_figures(labels: np.ndarray, scores: np.ndarray, threshold: float | None = None) -> list[Figures]:
    """precision, recall, f1 and clips of each class; None where a class has no clips: no prediction could raise them.

    A class that has clips and is never predicted has 0.
    """
    from sklearn.metrics import precision_recall_fscore_support

    every = np.arange(scores.shape[1])
    columns = precision_recall_fscore_support(labels, predict(scores, threshold), labels=every, zero_division=0)
    return [
        {
            **{name: float(x) if count else None for name, x in zip(("precision", "recall", "f1"), row, strict=True)},
            "clips": int(count),
        }
        for *row, count in zip(*columns, strict=True)
    ]


def mean_class_figures(classes: list[Figures]) -> Figures:
    """precision, recall and f1 of class 1 of two, with more the mean over the classes that have clips."""
    judged = [classes[1]] if len(classes) == 2 else [found for found in classes if found["clips"]]
    names = ("precision", "recall", "f1")
    return {name: None if judged[0][name] is None else float(np.mean([k[name] for k in judged])) for name in names}


def best_threshold(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """The score of class 1 from which predicting it gives the best balanced accuracy; None but for two classes.

    Midway to the next lower score: other clips' scores fall on both sides of these.
    """
    from sklearn.metrics import roc_curve

    if scores.shape[1] != 2 or len(np.unique(labels)) < 2:
        return None
    false_alarms, hits, thresholds = roc_curve(labels, scores[:, 1])
    threshold = min(thresholds[np.argmax(hits - false_alarms)], 1.0)
    below = scores[scores[:, 1] < threshold, 1]
    return float((threshold + below.max()) / 2 if len(below) else threshold)


def best_temperature(labels: np.ndarray, logits: np.ndarray) -> float:
    """The T by which logits float (N, K) are divided so that their softmax gives the labels the largest likelihood.

    Temperature scaling (Guo et al., "On calibration of modern neural networks", 2017). 1.0, which changes nothing,
    where there is no such T within TEMPERATURES: a class has no labels, all predictions are right (the smaller T, the
    larger the likelihood), or they are no better than chance.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    if len(np.unique(labels)) < logits.shape[1] or (logits.argmax(1) == labels).all():
        return 1.0

    def loss(log_temperature: float) -> float:
        log_scores = log_softmax(logits.astype(np.float64) / np.exp(log_temperature), axis=1)
        return -float(log_scores[np.arange(len(labels)), labels].mean())

    bounds = np.log(TEMPERATURES)
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x
    return 1.0 if np.isclose(found, bounds, atol=1e-3).any() else float(np.exp(found))


def bootstrap_intervals(
    labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, threshold: float | None = None
) -> Intervals:
    """95% intervals of what `classification_metrics` gives; groups: int (N,), see `_intervals`.

    None, too, where one class of two is in a single group: its clips would be the same in every resample.
    """
    if scores.shape[1] == 2 and any(len(np.unique(groups[labels == k])) == 1 for k in (0, 1)):
        groups = np.zeros_like(groups)
    return _intervals(weighted.classification_figures, groups, labels, scores, threshold)


def macro_f1(labels: np.ndarray, scores: np.ndarray) -> Figures:
    """f1_macro, the mean F1 over the classes that have clips; the largest probability decides."""
    return _figures(weighted.macro_f1, labels, scores)


def macro_f1_interval(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> Intervals:
    """The 95% interval of what `macro_f1` gives; groups: int (N,), see `_intervals`."""
    return _intervals(weighted.macro_f1, groups, labels, scores)


def regression_intervals(targets: np.ndarray, values: np.ndarray, groups: np.ndarray) -> Intervals:
    """95% intervals of what `regression_metrics` gives; groups: int (N,), see `_intervals`."""
    return _intervals(weighted.regression_figures, groups, targets, values)


def measures(values: Figures, intervals: Intervals) -> Measures:
    """Figures beside their intervals, None where there is none."""
    return {name: {"value": value, "interval": intervals.get(name)} for name, value in values.items()}


def mean_measures(found: list[Measures]) -> Measures:
    """The mean of each figure over those in which it is defined: how many these are is `over`; no interval."""
    means = {}
    for name in found[0]:
        values = [one[name]["value"] for one in found if one[name]["value"] is not None]
        means[name] = {"value": float(np.mean(values)) if values else None, "interval": None, "over": len(values)}
    return means


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


def _figures(measure: Callable[..., weighted.Figures], truth: np.ndarray, *rest: object) -> Figures:
    found = measure(truth, rest[0], np.ones((len(truth), 1)), *rest[1:])
    return {name: float(value[0]) if np.isfinite(value[0]) else None for name, value in found.items()}


def _intervals(
    measure: Callable[..., weighted.Figures],
    groups: np.ndarray,
    truth: np.ndarray,
    predicted: np.ndarray,
    *rest: object,
) -> Intervals:
    """95% percentile intervals of the figures, whole groups resampled: clips of one group are not independent.

    None for a figure that no resample defines, and for all where there are fewer than two groups.
    """
    place = np.unique(groups, return_inverse=True)[1]
    count = place.max() + 1
    if count < 2:
        return dict.fromkeys(measure(truth, predicted, np.ones((len(truth), 1)), *rest))
    rng, drawn, begin = np.random.default_rng(0), [], time.monotonic()
    last, chunk = begin, max(1, CHUNK_VALUES // len(truth))
    for done in range(0, RESAMPLES, chunk):
        draws = [rng.integers(count, size=count) for _ in range(min(chunk, RESAMPLES - done))]
        times = np.stack([np.bincount(draw, minlength=count) for draw in draws], 1)  # (groups, R)
        drawn.append(measure(truth, predicted, times[place].astype(np.float64), *rest))
        if (now := time.monotonic()) - last > LINE_SECONDS:
            last = now
            logger.info(f"intervals: {done + len(draws)} of {RESAMPLES} resamples, {now - begin:.0f} s")
    return {name: _interval(np.concatenate([found[name] for found in drawn])) for name in drawn[0]}


def _interval(values: np.ndarray) -> list[float] | None:
    values = values[np.isfinite(values)]
    return np.percentile(values, [2.5, 97.5]).tolist() if len(values) else None


def psnr(mse: float) -> float:
    """The peak signal-to-noise ratio in dB of a mean squared error of pixels in 0 to 1; BEST_PSNR at most."""
    return min(BEST_PSNR, -10 * math.log10(mse)) if mse > 0 else BEST_PSNR
