"""Figures against scikit-learn's own, and None where they are not defined."""

import logging

import numpy as np
import pytest
from scipy.special import log_softmax
from scores import made_scores
from sklearn import metrics as sk

from trainer.evaluation import metrics
from trainer.evaluation.metrics import (
    best_temperature,
    best_threshold,
    bootstrap_intervals,
    class_figures,
    classification_metrics,
    mean_class_figures,
    regression_intervals,
    regression_metrics,
    softmax,
)
from trainer.evaluation.weighted import predict


def test_a_class_in_one_group_has_no_interval():
    """Every resample that has the class holds the same clips of it: an interval of no width would look certain."""
    labels, scores = np.array([0, 0, 1, 1]), np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8]])
    assert set(bootstrap_intervals(labels, scores, np.array([0, 1, 2, 2])).values()) == {None}
    assert bootstrap_intervals(labels, scores, np.arange(4))["auc"] is not None


def test_two_classes():
    labels, scores = made_scores(2)
    figures, predictions = classification_metrics(labels, scores), scores.argmax(1)
    assert figures["auc"] == pytest.approx(sk.roc_auc_score(labels, scores[:, 1]))
    assert figures["ap"] == pytest.approx(sk.average_precision_score(labels, scores[:, 1]))
    assert figures["accuracy"] == pytest.approx(sk.accuracy_score(labels, predictions))
    assert figures["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(labels, predictions))
    assert figures["brier"] == pytest.approx(sk.brier_score_loss(labels, scores[:, 1]))
    assert all(type(value) is float for value in figures.values()), "as JSON takes them"


def test_more_classes_are_macro_averages():
    labels, scores = made_scores(4)
    figures = classification_metrics(labels, scores, threshold=0.9)
    assert figures["auc"] == pytest.approx(sk.roc_auc_score(labels, scores, multi_class="ovr", average="macro"))
    assert figures["ap"] == pytest.approx(sk.average_precision_score(np.eye(4)[labels], scores, average="macro"))
    assert figures["accuracy"] == pytest.approx(sk.accuracy_score(labels, scores.argmax(1))), "without the threshold"
    assert figures["brier"] == pytest.approx(((scores - np.eye(4)[labels]) ** 2).sum(1).mean())


def test_a_class_that_is_missing_does_not_count():
    labels, scores = made_scores(3)
    chosen = labels != 2
    figures = classification_metrics(labels[chosen], scores[chosen])
    expected = np.mean([sk.roc_auc_score(labels[chosen] == k, scores[chosen, k]) for k in (0, 1)])
    assert figures["auc"] == pytest.approx(expected)
    classes = class_figures(labels[chosen], scores[chosen])
    assert classes[2] == {"precision": None, "recall": None, "f1": None, "clips": 0}
    assert mean_class_figures(classes)["recall"] == pytest.approx(figures["balanced_accuracy"])


@pytest.mark.parametrize("num_classes", [2, 3])
def test_one_class_alone_has_no_areas(num_classes):
    _, scores = made_scores(num_classes, 20)
    labels = np.ones(20, int)
    figures = classification_metrics(labels, scores)
    for name in ("auc", "ap", "eer", "tpr_at_fpr_1", "tpr_at_fpr_5"):
        assert figures[name] is None
    assert 0 <= figures["accuracy"] <= 1
    assert mean_class_figures(class_figures(labels, scores))["recall"] == figures["accuracy"], "of the one there is"
    assert best_threshold(labels, scores) is None
    intervals = bootstrap_intervals(labels, scores, np.arange(20))
    assert intervals["auc"] is None and intervals["accuracy"][0] < figures["accuracy"] < intervals["accuracy"][1]


@pytest.mark.parametrize("num_classes", [2, 5])
def test_figures_of_each_class(num_classes):
    labels, scores = made_scores(num_classes)
    found, predictions = class_figures(labels, scores), scores.argmax(1)
    for name, score in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
        assert [own[name] for own in found] == pytest.approx(score(labels, predictions, average=None))
        average = "binary" if num_classes == 2 else "macro"
        assert mean_class_figures(found)[name] == pytest.approx(score(labels, predictions, average=average))
    assert [own["clips"] for own in found] == np.bincount(labels).tolist()


def test_what_no_prediction_could_raise_is_undefined():
    labels, scores = np.zeros(4, int), np.array([[0.9, 0.1]] * 3 + [[0.2, 0.8]])
    for chosen in (slice(None), slice(3)):  # with a false alarm, and without
        figures = mean_class_figures(class_figures(labels[chosen], scores[chosen]))
        assert figures == {"precision": None, "recall": None, "f1": None}
    never = class_figures(np.array([0, 1]), np.array([[0.9, 0.1]] * 2))
    assert never[1] == {"precision": 0, "recall": 0, "f1": 0, "clips": 1}


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
    labels, scores = made_scores(2)
    threshold = best_threshold(labels, scores)
    best = max(sk.balanced_accuracy_score(labels, scores[:, 1] >= t) for t in scores[:, 1])
    assert sk.balanced_accuracy_score(labels, predict(scores, threshold)) == pytest.approx(best)
    figures = classification_metrics(labels, scores, threshold)
    assert figures["balanced_accuracy"] == pytest.approx(best)
    assert figures["auc"] == classification_metrics(labels, scores)["auc"]


def test_threshold_lies_in_the_middle_of_the_gap():
    score = np.array([0.1, 0.2, 0.6, 0.9])
    assert best_threshold(np.array([0, 0, 1, 1]), np.stack([1 - score, score], 1)) == pytest.approx(0.4)


def test_calibration_error_of_a_model_that_is_always_sure():
    labels = np.array([0, 1, 1, 1])
    for sure, error in ((1.0, 0.25), (0.75, 0.0)):
        figures = classification_metrics(labels, np.array([[1 - sure, sure]] * 4))
        assert figures["calibration_error"] == pytest.approx(error)


def test_a_rate_is_that_of_a_threshold_that_can_be_set():
    labels = np.array([1] * 4 + [0] * 20)
    score = np.array([0.9, 0.8, 0.3, 0.2, 0.85, *np.linspace(0, 0.1, 19)])
    figures = classification_metrics(labels, np.stack([1 - score, score], 1))
    assert figures["tpr_at_fpr_1"] == 0.25, "the next threshold has 5% false positives"
    assert figures["tpr_at_fpr_5"] == 1.0, "one of twenty is 5%"


def test_intervals_resample_groups():
    labels, scores = made_scores(2, 120)
    alone = bootstrap_intervals(labels, scores, np.arange(120))["auc"]
    area = sk.roc_auc_score(labels, scores[:, 1])
    assert alone[0] < area < alone[1]
    # every clip twice, in one group with its copy: the interval must not shrink
    doubled = bootstrap_intervals(np.tile(labels, 2), np.tile(scores, (2, 1)), np.tile(np.arange(120), 2))["auc"]
    assert doubled[1] - doubled[0] == pytest.approx(alone[1] - alone[0], rel=0.2)


def test_one_group_gives_no_interval():
    labels, scores = made_scores(2, 40)
    found = bootstrap_intervals(labels, scores, np.zeros(40, int))
    assert found == dict.fromkeys(classification_metrics(labels, scores))
    values = regression_intervals(np.arange(40.0), scores[:, 0], np.full(40, 7))
    assert values == {"mae": None, "rmse": None, "r2": None, "pearson": None}


def test_what_takes_long_says_how_far_it_is(monkeypatch, caplog):
    labels, scores = made_scores(2, 40)
    monkeypatch.setattr(metrics, "LINE_SECONDS", 0)
    monkeypatch.setattr(metrics, "CHUNK_VALUES", 40 * 500)
    caplog.set_level(logging.INFO)
    bootstrap_intervals(labels, scores, np.arange(40))
    assert [line.partition(",")[0] for line in caplog.messages] == [
        "intervals: 500 of 1000 resamples", "intervals: 1000 of 1000 resamples",
    ]  # fmt: skip


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_temperature_has_the_largest_likelihood(factor):
    labels, scores = made_scores(3, 400)
    logits = factor * np.log(scores)
    found = best_temperature(labels, logits)

    def likelihood(temperature):
        return log_softmax(logits / temperature, axis=1)[np.arange(400), labels].mean()

    assert likelihood(found) >= max(map(likelihood, np.geomspace(0.1, 10, 2000)))
    assert found == pytest.approx(factor * best_temperature(labels, np.log(scores)), rel=1e-4)


@pytest.mark.parametrize(
    ("labels", "logits"),
    [
        ([0, 1], [[2, 0], [0, 2]]),
        ([0, 1], [[900, 0], [0, 900]]),
        ([0, 1], [[0, 2], [2, 0]]),
        ([0, 1, 1], [[0.01, 0], [0, 0.01], [1e-3, 0]]),
        ([1, 1, 1], [[2, 0], [0, 2], [0, 1]]),
    ],
    ids=["all right", "all right and sure", "all wrong", "one wrong by little", "one class"],
)
def test_where_validation_gives_no_temperature_scores_stay_as_they_are(labels, logits):
    assert best_temperature(np.array(labels), np.array(logits, float)) == 1.0


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


def test_three_classes_have_no_threshold():
    assert best_threshold(*made_scores(3)) is None
