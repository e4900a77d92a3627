"""Losses against values worked out by hand, one per clip."""

import math

import numpy as np
import pytest
import torch

from trainer.config.settings import LOSSES
from trainer.errors import SettingsError
from trainer.tasks.classification.losses import build_loss

LOGITS = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)], [0.0, 0.0]])  # p(class 1): 3/4, 3/4, 1/2
TARGET = torch.tensor([1, 0, 1])
LABELS = np.array([0, 0, 0, 1])
P = [0.75, 0.25, 0.5]  # of the clip's own class


def loss_of(labels=LABELS, num_classes=2, name="cross_entropy", **settings):
    return build_loss(LOSSES[name](**settings), np.bincount(labels, minlength=num_classes), torch.device("cpu"))


@pytest.mark.parametrize("name", ["cross_entropy", "bce"])
def test_entropies(name):
    assert loss_of(name=name)(LOGITS, TARGET).tolist() == pytest.approx([-math.log(p) for p in P])


def test_focal():
    plain = loss_of(name="focal", gamma=2.0)(LOGITS, TARGET)
    assert plain.tolist() == pytest.approx([-((1 - p) ** 2) * math.log(p) for p in P])
    weighed = loss_of(name="focal", gamma=2.0, alpha=0.25)(LOGITS, TARGET)
    expected = [-a * (1 - p) ** 2 * math.log(p) for a, p in zip([0.25, 0.75, 0.25], P, strict=True)]
    assert weighed.tolist() == pytest.approx(expected)
    assert loss_of(name="focal", gamma=0.0)(LOGITS, TARGET).tolist() == pytest.approx([-math.log(p) for p in P])


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_has_a_slope_where_the_model_is_sure(gamma):
    logits = torch.tensor([[-50.0, 50.0], [50.0, -50.0]], requires_grad=True)
    loss = loss_of(name="focal", gamma=gamma)(logits, torch.tensor([1, 1]))
    loss.sum().backward()
    assert logits.grad.isfinite().all() and loss.tolist() == pytest.approx([0, 100])


@pytest.mark.parametrize("name", ["cross_entropy", "bce", "focal"])
def test_class_weights_balance_the_classes(name):
    ratio = loss_of(name=name, class_weights=True)(LOGITS, TARGET) / loss_of(name=name)(LOGITS, TARGET)
    assert ratio.tolist() == pytest.approx([4 / 2, 4 / 6, 4 / 2])  # N / (K · count)


def test_a_class_without_clips_has_a_finite_weight():
    assert loss_of(np.array([0, 0]), class_weights=True)(LOGITS, TARGET).isfinite().all()


def test_smoothing():
    smoothed = loss_of(smoothing=0.2)(LOGITS, TARGET)
    assert smoothed[0].item() == pytest.approx(-0.9 * math.log(0.75) - 0.1 * math.log(0.25))


def test_half_precision_logits_do_not_overflow():
    logits = torch.tensor([[0.0, 60000.0]], dtype=torch.float16)
    for name in ("cross_entropy", "bce", "focal"):
        loss = loss_of(name=name)(logits, torch.tensor([0]))
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(60000.0, rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "what"), [({"name": "bce"}, "loss.name=bce"), ({"name": "focal", "alpha": 0.25}, "loss.alpha")]
)
def test_losses_of_two_classes(settings, what):
    with pytest.raises(SettingsError, match=f"{what} is for two classes, the shards have 3"):
        loss_of(num_classes=3, **settings)


def test_three_classes():
    logits = torch.zeros(1, 3)
    for settings, factor in (({"name": "cross_entropy"}, 1), ({"name": "focal", "gamma": 1.0}, 2 / 3)):
        loss = loss_of(np.array([0, 1, 2]), 3, **settings)(logits, torch.tensor([2]))
        assert loss.item() == pytest.approx(math.log(3) * factor)
