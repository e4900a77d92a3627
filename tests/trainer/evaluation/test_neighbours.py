"""Near neighbours of training pictures."""

import numpy as np
import pytest

from trainer.evaluation.neighbours import neighbours


def normal(seed, count):
    return np.random.default_rng(seed).normal(0, 1, (count, 8))


def test_copies_of_training_pictures_are_near_neighbours_and_new_ones_are_not():
    train, val = normal(0, 300), normal(1, 300)
    copies = neighbours(train[40:90] + 0.01, train, val)
    assert copies.share == 1 and copies.nearest.tolist() == list(range(40, 90))
    assert neighbours(normal(2, 1000), train, val).share < 0.03
    repeated = neighbours(train[40:90], train, np.concatenate([train[:20], val]))
    assert repeated.share == 1, "also where val repeats pictures of train"
    mixed = neighbours(np.concatenate([normal(3, 50), train[:3]]), train, val)
    assert set(mixed.closest()[:3]) == {50, 51, 52} and len(mixed.closest()) == 16


def test_distances_are_those_to_the_nearest():
    points = np.array([[0.0, 0], [3, 4], [10, 0]], np.float32)
    assert neighbours(points[:2], points[1:], points).distances.tolist() == [5, 0]
    many = np.random.default_rng(0).normal(50, 1, (64, 32)).astype(np.float32)
    assert not neighbours(many, many, many).distances.any(), "copies"


@pytest.mark.parametrize("place", range(3))
def test_nothing_and_what_is_not_finite_are_errors(place):
    for wrong, said in ((np.empty((0, 8)), "0 sample"), (np.full((4, 8), np.nan), "NaN")):
        sets = [normal(number, 20) for number in range(3)]
        sets[place] = wrong
        with pytest.raises(ValueError, match=said):
            neighbours(*sets)
