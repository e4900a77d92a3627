"""The plot of the confusion matrix: counts and shares, or with many classes an overview and the worst pairs."""

import itertools

import numpy as np
import pytest
from drawn import drawn, texts
from PIL import Image

from trainer.evaluation.plots import plot_confusion


@pytest.mark.parametrize("num_classes", [2, 12])
def test_long_names_leave_the_squares_their_room(num_classes):
    names = [f"a_long_name_of_a_class_number_{k}_of_all_the_classes" for k in range(num_classes)]
    labels = np.arange(num_classes).repeat(3)
    axis = drawn(plot_confusion, labels, labels, names)[0]
    assert axis.get_window_extent().width / axis.figure.dpi > 0.5 * num_classes
    boxes = [label.get_window_extent() for label in axis.get_xticklabels()]
    assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))


def test_a_few_clips_of_many_are_not_none():
    labels = np.repeat([0, 1], [12_000, 50])
    predictions = labels.copy()
    predictions[:3] = 1
    axis = drawn(plot_confusion, labels, predictions, ["real", "fake"])[0]
    assert texts(axis.texts) == ["11,997\n>99%", "3\n<1%", "0\n0%", "50\n100%"]


def test_many_classes_have_a_picture_of_bounded_size_and_their_worst_pairs(tmp_path):
    names = [f"kind {k}" for k in range(101)]
    labels = np.arange(101).repeat(10)
    predictions = labels.copy()
    predictions[70:74], predictions[500:502] = 9, 3  # 4 clips of kind 7, 2 of kind 50
    _, listed, _ = drawn(plot_confusion, labels, predictions, names)
    assert texts(listed.get_yticklabels()) == ["kind 7, predicted kind 9", "kind 50, predicted kind 3"]
    assert texts(listed.texts) == ["4 (40%)", "2 (20%)"]
    plot_confusion(labels, predictions, names, tmp_path / "confusion.png")
    assert max(Image.open(tmp_path / "confusion.png").size) < 3000
    _, listed, _ = drawn(plot_confusion, labels, labels, names)
    assert listed.get_title("left") == "No clip is predicted wrongly"
