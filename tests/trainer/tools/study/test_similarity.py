import numpy as np
import pytest

from trainer.tools.study import similarity
from trainer.tools.study.similarity import kernel_distance, precision_recall, spread


def normal(seed, count, mean=0.0, deviation=1.0, size=8):
    return np.random.default_rng(seed).normal(mean, deviation, (count, size))


def test_kernel_distance_is_none_for_one_distribution_and_grows_with_the_distance():
    same, near, far = (kernel_distance(normal(1, 300), normal(2, 300, mean)) for mean in (0, 0.3, 1))
    assert abs(same) < 0.02 < near < far
    one, other = normal(1, 4, size=2), normal(2, 3, 1, size=2)
    kernel = lambda x, y: (x @ y / 2 + 1) ** 3  # noqa: E731
    within = [np.mean([kernel(x, y) for x in each for y in each if x is not y]) for each in (list(one), list(other))]
    assert kernel_distance(one, other) == pytest.approx(
        sum(within) - 2 * np.mean([kernel(x, y) for x in one for y in other])
    )


def test_of_large_sets_some_are_compared(monkeypatch):
    sets = normal(1, 300), normal(2, 300, 0.3)
    whole = kernel_distance(*sets), *precision_recall(*sets)
    monkeypatch.setattr(similarity, "MOST", 100)
    some = kernel_distance(*sets), *precision_recall(*sets)
    assert some == pytest.approx(whole, abs=0.2)
    assert all(one != other for one, other in zip(some, whole, strict=True))


def test_a_single_picture_has_no_kernel_distance():
    assert kernel_distance(normal(1, 1), normal(2, 30)) is kernel_distance(normal(2, 30), normal(1, 1)) is None
    assert precision_recall(normal(1, 1), normal(2, 30)) == (0, 0)


def test_precision_and_recall_tell_odd_pictures_from_missing_ones():
    real = np.concatenate([normal(0, 100), normal(1, 100, 20)])  # two kinds
    half = precision_recall(normal(2, 100), real)
    assert half[0] > 0.8 and half[1] < 0.6, "good pictures of one kind"
    odd = precision_recall(np.concatenate([normal(3, 100), normal(4, 100, -20)]), real)
    assert odd[0] < 0.6, "half are like no real one"
    assert precision_recall(real, real) == (1.0, 1.0)


def test_spread_is_within_classes():
    features = np.array([[0.0], [2], [10], [14]])
    assert spread(features, np.array([0, 0, 1, 1])) == 1.5
