"""The plot of ROC and precision-recall curves."""

import numpy as np
import pytest
from drawn import drawn, legend, texts
from matplotlib import colormaps
from sklearn.metrics import average_precision_score, precision_score, roc_auc_score

from trainer.evaluation.metrics import softmax
from trainer.evaluation.plots import plot_curves
from trainer.evaluation.plots.curves import precision_steps


def made(num_classes, count=60, strength=1.0):
    rng = np.random.default_rng(0)
    labels = np.arange(count) % num_classes
    return labels, softmax(rng.normal(size=(count, num_classes)) + strength * np.eye(num_classes)[labels])


def test_one_class_says_that_curves_are_undefined():
    _, scores = made(2, 9)
    for axis in drawn(plot_curves, np.zeros(9, int), scores, ["fake", "real"], None):
        assert texts(axis.texts) == ["undefined: all clips are fake"] and legend(axis) == ["real  undefined"]


def test_the_thresholds_point_is_marked_on_both_curves():
    labels, scores = made(2)
    left, right = drawn(plot_curves, labels, scores, ["real", "fake"], 0.6)
    predicted = scores[:, 1] >= 0.6
    recall = predicted[labels == 1].mean()
    expected = (predicted[labels == 0].mean(), recall), (recall, precision_score(labels, predicted))
    for axis, point in zip((left, right), expected, strict=True):
        (marked,) = [line for line in axis.get_lines() if line.get_marker() == "o"]
        assert (*marked.get_xdata(), *marked.get_ydata()) == pytest.approx(point)
        assert "threshold 0.600" in legend(axis)
    assert legend(left)[0] == f"fake  AUC {roc_auc_score(labels, scores[:, 1]):.3f}"


def test_names_are_below_the_curves_and_the_largest_area_is_first():
    labels, scores = made(11)
    names = [f"{'a very long name ' * 7} {k}" for k in range(11)]
    labels[labels == 10] = 0
    for axis, area in zip(drawn(plot_curves, labels, scores, names, None), ("AUC", "AP"), strict=True):
        box = axis.get_legend().get_window_extent()
        assert box.y1 < axis.get_window_extent().y0 and box.width < axis.get_window_extent().width * 1.2
        areas = [float(line.rpartition(f"{area} ")[2]) for line in legend(axis)[:10]]
        assert areas == sorted(areas, reverse=True)
        assert "undefined" in legend(axis)[10], "the last class has no clips"
        colours = {line.get_color() for line in axis.get_lines()[:10]}
        assert colours == set(colormaps["tab10"].colors)


def test_many_classes_are_their_mean_and_the_worst_five():
    labels, scores = made(40, 400)
    areas = np.array([roc_auc_score(labels == k, scores[:, k]) for k in range(40)])
    left, right = drawn(plot_curves, labels, scores, [f"kind {k}" for k in range(40)], None)
    assert f"mean of 40 classes  AUC {areas.mean():.3f}" in legend(left)
    worst = [f"kind {k}  AUC {areas[k]:.3f}" for k in np.argsort(areas)[:5]]
    assert [line for line in legend(left) if line.startswith("kind")] == worst[::-1]
    precisions = [average_precision_score(labels == k, scores[:, k]) for k in range(40)]
    for axis, area in ((left, areas.mean()), (right, np.mean(precisions))):
        (mean,) = [line for line in axis.get_lines() if line.get_label().startswith("mean")]
        assert np.trapezoid(mean.get_ydata(), mean.get_xdata()) == pytest.approx(area, abs=0.01)


def test_precision_steps_have_the_area_of_the_average_precision():
    rng = np.random.default_rng(0)
    for _ in range(20):
        positive = np.append([True, False], rng.random(20) < 0.4)
        scores = rng.normal(size=22) + positive
        recall, precision = precision_steps(positive, scores)
        assert -np.sum(np.diff(recall) * precision[:-1]) == pytest.approx(average_precision_score(positive, scores))
        assert (np.diff(recall) < 0).all() and recall[-1] == 0 and precision[-1] == precision[-2]
