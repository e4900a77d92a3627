"""Figures against scikit-learn's own, and None where they are not defined."""

import numpy as np
import pytest
from sklearn import metrics as sk

from trainer.evaluation.metrics import (
    best_threshold,
    calibration_error,
    classification_intervals,
    classification_metrics,
    predict,
    regression_intervals,
    regression_metrics,
    softmax,
)


def made(num_classes, count=200, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, count)
    logits = rng.normal(size=(count, num_classes)) + 1.2 * np.eye(num_classes)[labels]
    return labels, softmax(logits)


def test_two_classes():
    labels, scores = made(2)
    figures, predictions = classification_metrics(labels, scores), scores.argmax(1)
    assert figures["auc_roc"] == pytest.approx(sk.roc_auc_score(labels, scores[:, 1]))
    assert figures["auc_pr"] == pytest.approx(sk.average_precision_score(labels, scores[:, 1]))
    assert figures["accuracy"] == pytest.approx(sk.accuracy_score(labels, predictions))
    assert figures["f1"] == pytest.approx(sk.f1_score(labels, predictions))
    assert figures["precision"] == pytest.approx(sk.precision_score(labels, predictions))
    assert figures["recall"] == pytest.approx(sk.recall_score(labels, predictions))
    assert figures["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(labels, predictions))
    assert figures["brier"] == pytest.approx(sk.brier_score_loss(labels, scores[:, 1]))


def test_more_classes_are_macro_averages():
    labels, scores = made(4)
    figures, predictions = classification_metrics(labels, scores), scores.argmax(1)
    expected = sk.roc_auc_score(labels, scores, multi_class="ovr", average="macro")
    assert figures["auc_roc"] == pytest.approx(expected)
    assert figures["f1"] == pytest.approx(sk.f1_score(labels, predictions, average="macro"))


def test_a_class_that_is_missing_does_not_count():
    labels, scores = made(3)
    chosen = labels != 2
    figures = classification_metrics(labels[chosen], scores[chosen])
    expected = np.mean([sk.roc_auc_score(labels[chosen] == k, scores[chosen, k]) for k in (0, 1)])
    assert figures["auc_roc"] == pytest.approx(expected)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_one_class_alone_has_no_areas(num_classes):
    _, scores = made(num_classes, 20)
    figures = classification_metrics(np.ones(20, int), scores)
    assert figures["auc_roc"] is figures["auc_pr"] is figures["eer"] is None
    assert 0 <= figures["accuracy"] <= 1
    assert figures["recall"] == figures["accuracy"], "of the class that there is"
    assert best_threshold(np.ones(20, int), scores) is None


def test_what_no_prediction_could_raise_is_undefined():
    labels, scores = np.zeros(4, int), np.array([[0.9, 0.1]] * 3 + [[0.2, 0.8]])
    for chosen in (slice(None), slice(3)):  # with a false alarm, and without
        figures = classification_metrics(labels[chosen], scores[chosen])
        assert figures["precision"] is figures["recall"] is figures["f1"] is None
        assert figures["accuracy"] == figures["balanced_accuracy"] == (1 if chosen.stop else 0.75)
    never = classification_metrics(np.array([0, 1]), np.array([[0.9, 0.1]] * 2))
    assert never["precision"] == never["recall"] == never["f1"] == 0


def test_macro_figures_are_over_the_classes_that_have_clips():
    labels, scores = np.array([0, 0, 1, 1]), np.eye(3)[[0, 2, 1, 1]]
    figures = classification_metrics(labels, scores)
    assert figures["recall"] == figures["balanced_accuracy"] == pytest.approx(0.75)
    assert figures["precision"] == pytest.approx(1) and figures["f1"] == pytest.approx((2 / 3 + 1) / 2)


def eer_of(labels, score):
    return classification_metrics(labels, np.stack([1 - score, score], 1))["eer"]


def test_equal_error_rate():
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    score = np.array([0.1, 0.2, 0.3, 0.8, 0.25, 0.7, 0.85, 0.9])  # one of four wrong on either side at 0.5
    assert eer_of(labels, score) == pytest.approx(0.25)
    # at 0.7 one of two is a false alarm and two of three are missed, at 0.5 one of three: misses fall past 1/2 between
    assert eer_of(np.array([0, 0, 1, 1, 1]), np.array([0.1, 0.7, 0.2, 0.5, 0.8])) == pytest.approx(0.5)
    # the ROC's only point between its ends is (1/2, 3/4); on the line from (0, 0), 1 - 3/2 x is x at 0.4
    assert eer_of(np.array([0, 0, 1, 1, 1, 1]), np.array([0, 1, 1, 1, 1, 0])) == pytest.approx(0.4)
    assert eer_of(np.array([0, 0, 1, 1]), np.full(4, 0.5)) == pytest.approx(0.5)


@pytest.mark.parametrize("ties", [False, True])
def test_equal_error_rate_against_every_threshold(ties):
    """The least of the larger share of errors, over all thresholds and all mixtures of neighbouring ones."""
    rng, mixture = np.random.default_rng(0), np.linspace(0, 1, 501)[:, None]
    for count in rng.integers(6, 40, 100):
        labels = np.append([0, 1], rng.integers(0, 2, count))
        score = rng.normal(size=len(labels)) + rng.uniform(0, 3) * labels
        score = 1 / (1 + np.exp(-(score.round() if ties else score)))
        thresholds = np.append(np.inf, np.unique(score)[::-1])
        alarms = np.array([np.mean(score[labels == 0] >= threshold) for threshold in thresholds])
        misses = np.array([np.mean(score[labels == 1] < threshold) for threshold in thresholds])
        mixed = [share[:-1] * (1 - mixture) + share[1:] * mixture for share in (alarms, misses)]
        assert eer_of(labels, score) == pytest.approx(np.maximum(*mixed).min(), abs=2e-3)


def test_threshold_gives_the_best_balanced_accuracy():
    labels, scores = made(2)
    threshold = best_threshold(labels, scores)
    best = max(sk.balanced_accuracy_score(labels, scores[:, 1] >= t) for t in scores[:, 1])
    assert sk.balanced_accuracy_score(labels, predict(scores, threshold)) == pytest.approx(best)
    figures = classification_metrics(labels, scores, threshold)
    assert figures["balanced_accuracy"] == pytest.approx(best)
    assert figures["auc_roc"] == classification_metrics(labels, scores)["auc_roc"]


def test_threshold_lies_in_the_middle_of_the_gap():
    score = np.array([0.1, 0.2, 0.6, 0.9])
    assert best_threshold(np.array([0, 0, 1, 1]), np.stack([1 - score, score], 1)) == pytest.approx(0.4)


def test_calibration_error_of_a_model_that_is_always_sure():
    labels, scores = np.array([0, 1, 1, 1]), np.array([[0.0, 1.0]] * 4)
    assert calibration_error(labels, scores) == pytest.approx(0.25)
    assert calibration_error(labels, np.array([[0.25, 0.75]] * 4)) == pytest.approx(0.0)


def test_intervals_resample_groups():
    labels, scores = made(2, 120)
    alone = classification_intervals(labels, scores, np.arange(120))["auc_roc"]
    area = sk.roc_auc_score(labels, scores[:, 1])
    assert alone[0] < area < alone[1]
    # every clip twice, in one group with its copy: the interval must not shrink
    doubled = classification_intervals(np.tile(labels, 2), np.tile(scores, (2, 1)), np.tile(np.arange(120), 2))[
        "auc_roc"
    ]
    assert doubled[1] - doubled[0] == pytest.approx(alone[1] - alone[0], rel=0.2)


def test_nothing_to_resample_gives_no_interval():
    labels, scores = made(2, 40)
    none = {"auc_roc": None, "accuracy": None, "balanced_accuracy": None}
    assert classification_intervals(labels, scores, np.zeros(40, int)) == none
    assert classification_intervals(np.ones(40, int), scores, np.arange(40)) == none
    values = regression_intervals(np.arange(40.0), scores[:, 0], np.full(40, 7))
    assert values == {"mae": None, "rmse": None, "r2": None}


def test_softmax():
    assert softmax(np.array([[1000.0, 1000.0], [0.0, np.log(3)]])) == pytest.approx(
        np.array([[0.5, 0.5], [0.25, 0.75]])
    )


def test_regression():
    targets = np.array([1.0, 2.0, 3.0, 6.0])
    figures = regression_metrics(targets, np.array([2.0, 2.0, 3.0, 3.0]))
    assert figures["mae"] == pytest.approx(1) and figures["rmse"] == pytest.approx(np.sqrt(10 / 4))
    assert figures["r2"] == pytest.approx(1 - 10 / 14)
    assert figures["pearson"] == pytest.approx(np.corrcoef(targets, [2, 2, 3, 3])[0, 1])
    alike = regression_metrics(targets, np.full(4, 3.0))
    assert alike["pearson"] is None and alike["r2"] == pytest.approx(0)
    assert regression_metrics(np.ones(4), targets)["r2"] is None


def test_three_classes_have_no_threshold_and_macro_figures():
    labels, scores = made(3)
    assert best_threshold(labels, scores) is None
    figures, predictions = classification_metrics(labels, scores, 0.9), scores.argmax(1)
    assert figures["accuracy"] == pytest.approx(sk.accuracy_score(labels, predictions))
    for name, score in (("precision", sk.precision_score), ("recall", sk.recall_score)):
        assert figures[name] == pytest.approx(score(labels, predictions, average="macro"))
    assert figures["brier"] == pytest.approx(((scores - np.eye(3)[labels]) ** 2).sum(1).mean())
    assert figures["auc_pr"] == pytest.approx(sk.average_precision_score(np.eye(3)[labels], scores, average="macro"))
