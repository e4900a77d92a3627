"""The plots of how scores and errors are spread."""

import numpy as np
import pytest
from drawn import drawn

from trainer.evaluation.metrics import softmax
from trainer.evaluation.plots import plot_scores, plot_values


@pytest.mark.parametrize("count", [1, 3, 30, 5000])
def test_clips_are_counted_in_whole_numbers(count):
    targets = np.random.default_rng(0).normal(size=count)
    _, errors = drawn(plot_values, targets, targets**2)
    assert np.array_equal(errors.get_yticks(), errors.get_yticks().round()) and errors.get_ylim()[0] == 0
    bars = len(errors.patches)
    assert bars == 10 if count <= 30 else bars == 40


def test_single_false_alarms_beside_thousands_of_clips_are_seen():
    scores = np.array([0.01] * 4_000 + [0.9] * 2 + [0.95] * 40)
    labels = np.repeat([0, 1], [4_002, 40])
    real, fake = drawn(plot_scores, labels, np.stack([1 - scores, scores], 1), ["real", "fake"], 0.5)
    assert real.get_title("left") == "real: 4,002 clips, 2 (<1%) predicted as fake"
    assert fake.get_title("left") == "fake: 40 clips"
    low, high = np.log(real.get_ylim())
    assert real.get_yscale() == "log" and (np.log(2) - low) / (high - low) > 0.08
    few = slice(3_990, None)
    for axis in drawn(plot_scores, labels[few], np.stack([1 - scores, scores], 1)[few], ["real", "fake"], 0.5):
        assert axis.get_yscale() == "linear"


def test_many_classes_are_all_clips_and_the_five_of_the_lowest_scores():
    labels = np.arange(300) % 30
    scores = softmax(np.random.default_rng(0).normal(size=(300, 30)) + (labels % 7)[:, None] * np.eye(30)[labels])
    axes = drawn(plot_scores, labels, scores, [f"kind {k}" for k in range(30)], None)
    titles = [axis.get_title("left") for axis in axes]
    means = [scores[labels == k, k].mean() for k in range(30)]
    assert titles[0] == "all classes: 300 clips"
    assert [title.partition(":")[0] for title in titles[1:]] == [f"kind {k}" for k in np.argsort(means)[:5]]
