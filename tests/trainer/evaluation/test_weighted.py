"""Figures of resamples against those of scikit-learn and plain loops, on their items written out one by one."""

import itertools

import numpy as np
import pytest
from scipy.optimize import brentq
from scores import made_scores
from sklearn import metrics as sk

from trainer.evaluation import metrics
from trainer.evaluation.metrics import (
    bootstrap_intervals,
    classification_metrics,
    regression_intervals,
    regression_metrics,
    softmax,
)
from trainer.evaluation.weighted import predict


def loop_eer(positive, score):
    """By scipy's root finder, as most published code does."""
    false_rates, hits, _ = sk.roc_curve(positive, score, drop_intermediate=False)
    return brentq(lambda x: 1 - x - np.interp(x, false_rates, hits), 0, 1)


def loop_rate_at(positive, score, limit):
    """Over all thresholds."""
    rates = [(np.mean(score[~positive] >= t), np.mean(score[positive] >= t)) for t in [*np.unique(score), np.inf]]
    return max(hits for false_rate, hits in rates if false_rate <= limit)


def loop_calibration(labels, scores):
    confidence, is_right, error = scores.max(1), scores.argmax(1) == labels, 0.0
    edges = np.linspace(0, 1, 16)
    for low, high in itertools.pairwise(edges):
        inside = (confidence >= low) & ((confidence < high) | (high == 1) & (confidence == 1))
        if inside.any():
            error += inside.mean() * abs(confidence[inside].mean() - is_right[inside].mean())
    return error


def by_scikit_learn(labels, scores, threshold):
    """What one resample has, its items written out."""
    predictions = predict(scores, threshold)
    present = np.unique(labels)
    judged = [1] if scores.shape[1] == 2 else present
    curves = dict.fromkeys(("auc", "ap", "eer", "tpr_at_fpr_1", "tpr_at_fpr_5"))
    if len(present) > 1:
        of = {
            "auc": sk.roc_auc_score, "ap": sk.average_precision_score, "eer": loop_eer,
            "tpr_at_fpr_1": lambda *pair: loop_rate_at(*pair, 0.01),
            "tpr_at_fpr_5": lambda *pair: loop_rate_at(*pair, 0.05),
        }  # fmt: skip
        curves = {name: np.mean([figure(labels == k, scores[:, k]) for k in judged]) for name, figure in of.items()}
    squares = ((scores - np.eye(scores.shape[1])[labels]) ** 2).sum(1).mean()
    return curves | {
        "accuracy": sk.accuracy_score(labels, predictions),
        "balanced_accuracy": np.mean([np.mean(predictions[labels == k] == k) for k in present]),
        "brier": sk.brier_score_loss(labels, scores[:, 1], labels=[0, 1]) if scores.shape[1] == 2 else squares,
        "calibration_error": loop_calibration(labels, scores),
    }


@pytest.mark.parametrize(("num_classes", "count"), [(2, 12), (2, 90), (4, 60)])
@pytest.mark.parametrize("ties", [False, True])
def test_resamples_have_the_figures_of_scikit_learn(num_classes, count, ties, monkeypatch):
    """Every resample of whole groups, its items written out one by one, and the interval of the figures."""
    labels, scores = made_scores(num_classes, count, seed=count)
    if ties:
        scores = softmax(np.log(scores).round())
    groups, threshold = np.random.default_rng(1).integers(0, count // 3, count), 0.3
    monkeypatch.setattr(metrics, "RESAMPLES", 12)
    monkeypatch.setattr(metrics, "CHUNK_VALUES", 5 * count)  # some at a time
    found = bootstrap_intervals(labels, scores, groups, threshold)
    rng, names, expected = np.random.default_rng(0), np.unique(groups), []
    for _ in range(12):
        chosen = np.concatenate([np.flatnonzero(groups == names[i]) for i in rng.integers(len(names), size=len(names))])
        expected.append(by_scikit_learn(labels[chosen], scores[chosen], threshold))
    for name, interval in found.items():
        values = [one[name] for one in expected if one[name] is not None]
        assert interval == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=1e-9), name
    whole = classification_metrics(labels, scores, threshold)
    assert whole == {name: pytest.approx(x, abs=1e-9) for name, x in by_scikit_learn(labels, scores, threshold).items()}


@pytest.mark.parametrize("offset", [0, 1e5])
def test_resamples_of_values_have_the_figures_of_scikit_learn(offset, monkeypatch):
    rng = np.random.default_rng(0)
    targets = rng.normal(size=50).round(1) + offset
    values, groups = targets + rng.normal(size=50), rng.integers(0, 12, 50)
    monkeypatch.setattr(metrics, "RESAMPLES", 20)
    found, names = regression_intervals(targets, values, groups), np.unique(groups)
    rng, drawn = np.random.default_rng(0), []
    for _ in range(20):
        i = np.concatenate([np.flatnonzero(groups == names[i]) for i in rng.integers(len(names), size=len(names))])
        drawn.append(figures_of_values(targets[i], values[i]))
    for name, interval in found.items():
        assert interval == pytest.approx(np.percentile([one[name] for one in drawn], [2.5, 97.5]), abs=1e-9), name
    assert regression_metrics(targets, values) == pytest.approx(figures_of_values(targets, values), abs=1e-9)


def figures_of_values(targets, values):
    return {
        "mae": sk.mean_absolute_error(targets, values),
        "rmse": sk.root_mean_squared_error(targets, values),
        "r2": sk.r2_score(targets, values),
        "pearson": np.corrcoef(targets, values)[0, 1],
    }


def test_resamples_whose_targets_are_all_the_same_define_no_r2():
    targets, groups = np.array([0.1] * 3 + [0.7] * 3), np.arange(2).repeat(3)
    values = targets + np.array([0.1, 0, -0.2, 0.2, 0, 0])
    whole = regression_metrics(targets, values)
    found = regression_intervals(targets, values, groups)
    for name in ("r2", "pearson"):  # every other resample has both groups once
        assert found[name] == pytest.approx([whole[name]] * 2)
    assert found["mae"][0] < whole["mae"] < found["mae"][1]
