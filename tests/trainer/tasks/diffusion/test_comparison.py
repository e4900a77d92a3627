"""How samples lie among real latents: copies are near, strangers are not, and classes are told apart."""

import numpy as np
import pytest

from trainer.tasks.diffusion.comparison import Latents, compare, distances, evenly

CLASSES, EACH, SIZE = 8, 20, 12


def made(seed, labels=None, spread=0.3):
    """Points around the corner of their class."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(CLASSES), EACH) if labels is None else labels
    corners = 2 * np.eye(CLASSES, SIZE, dtype=np.float32)[labels]
    return Latents(corners + spread * rng.standard_normal((len(labels), SIZE), np.float32), labels)


TRAIN, VAL = made(0), made(1)


def test_sound_samples_agree_and_are_no_copies():
    found = compare(made(2), TRAIN, VAL)
    assert found["sample_agreement"] > 0.9 and found["sample_near"] < 0.05
    assert found["latent_std"] == pytest.approx(TRAIN.values.std()) and found["sample_std"] > 0


def test_copies_of_train_are_near():
    copies = Latents(TRAIN.values + np.float32(1e-4), TRAIN.labels)
    assert compare(copies, TRAIN, VAL)["sample_near"] == 1


def test_samples_of_other_classes_do_not_agree():
    other = Latents(made(2).values, np.roll(TRAIN.labels, EACH))
    assert compare(other, TRAIN, VAL)["sample_agreement"] < 0.05


def test_a_classifier_that_cannot_tell_real_ones_says_so():
    train, val, samples = (made(seed, spread=50.0) for seed in range(3))
    assert compare(samples, train, val)["real_agreement"] < 3 / CLASSES
    assert compare(made(2), TRAIN, VAL)["real_agreement"] > 0.9


def test_one_class_agrees_with_nothing():
    train, val, samples = (made(seed, np.zeros(EACH, int)) for seed in range(3))
    assert compare(samples, train, val).keys() == {"latent_std", "sample_std", "sample_near"}


def test_without_val_there_is_nothing_to_measure_nearness_by():
    none = Latents(np.zeros((0, SIZE), np.float32), np.zeros(0, np.int64))
    assert compare(made(2), TRAIN, none).keys() == {"latent_std", "sample_std"}


def test_distances_are_those_to_the_nearest():
    points = np.array([[0.0, 0], [3, 4], [10, 0]], np.float32)
    assert distances(points[:2], points[1:]).tolist() == pytest.approx([5, 0], abs=1e-3)


def test_evenly():
    assert evenly(np.arange(10), 3).tolist() == [0, 3, 6] and evenly(np.arange(2), 3).tolist() == [0, 1]
