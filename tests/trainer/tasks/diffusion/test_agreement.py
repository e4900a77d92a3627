"""The share of samples that look like their class."""

import numpy as np
import pytest

from trainer.tasks.diffusion.agreement import class_agreement

CLASSES, SHAPE = 5, (4, 4, 4)
CENTRES = np.random.default_rng(0).normal(size=(CLASSES, *SHAPE)).astype(np.float32)


def latents(seed, count, spread=0.5):
    """Of each class in turn, and their labels."""
    labels = np.arange(count) % CLASSES
    noise = np.random.default_rng(seed).normal(0, spread, (count, *SHAPE))
    return (CENTRES[labels] + noise).astype(np.float32), labels


@pytest.mark.parametrize(("turned", "least", "most"), [(0, 0.95, 1.0), (1, 0.0, 0.05)])
def test_samples_of_their_own_class_and_of_another(turned, least, most):
    samples = np.roll(latents(3, 20)[0].reshape(4, CLASSES, *SHAPE).swapaxes(0, 1), turned, 0)
    figures = class_agreement(samples, *latents(1, 200), *latents(2, 50))
    assert least <= figures["sample_agreement"] <= most
    assert figures["real_agreement"] >= 0.95


def test_real_ones_that_cannot_be_told_are_said():
    train, labels = latents(1, 200, spread=50)
    figures = class_agreement(train[:20].reshape(CLASSES, 4, *SHAPE), train, labels, *latents(2, 50, spread=50))
    assert figures["real_agreement"] < 0.5


def test_too_few_to_judge():
    some, labels = latents(1, 20)
    samples = some.reshape(CLASSES, 4, *SHAPE)
    assert class_agreement(samples, some[:3], labels[:3], some, labels) == {}
    assert class_agreement(samples, some, np.zeros(20, int), some, labels) == {}
    assert set(class_agreement(samples, some, labels, some[:0], labels[:0])) == {"sample_agreement"}
