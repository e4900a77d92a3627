"""What decays, and how the learning rate moves."""

import pytest
import torch
from torch import nn

from trainer.config.settings import SCHEDULERS, ConstantSettings, CosineSettings, OptimizerSettings, PlateauSettings
from trainer.engine.optimizer import Schedule, build_optimizer, cosine_with_warmup
from trainer.models.backbones import make_backbone


@pytest.fixture
def optimizer():
    model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))
    model[0].weight.requires_grad_(True)
    return build_optimizer(model, OptimizerSettings(lr=0.1, weight_decay=0.5))


def rate(optimizer):
    return optimizer.param_groups[0]["lr"]


def test_norms_and_biases_do_not_decay(optimizer):
    decay = {group["weight_decay"]: [tuple(p.shape) for p in group["params"]] for group in optimizer.param_groups}
    assert decay == {0.5: [(3, 4)], 0.0: [(3,), (3,), (3,)]}


def test_tokens_and_positions_do_not_decay():
    model = nn.Module()
    model.backbone, _, _ = make_backbone("test_vit", "none", 32)
    still = {p for group in build_optimizer(model, OptimizerSettings()).param_groups if not group["weight_decay"]
             for p in group["params"]}  # fmt: skip
    assert {model.backbone.pos_embed, model.backbone.cls_token} < still
    assert model.backbone.patch_embed.proj.weight not in still


def test_frozen_parameters_are_left_out():
    model = nn.Linear(4, 3)
    model.weight.requires_grad_(False)
    groups = build_optimizer(model, OptimizerSettings()).param_groups
    assert [group["params"] for group in groups] == [[model.bias]]


@pytest.mark.parametrize(("maximise", "worse"), [(True, 0.1), (False, 0.9)])
def test_plateau_waits_and_then_lowers(optimizer, maximise, worse):
    settings = PlateauSettings(factor=0.5, patience=2)
    schedule = Schedule(optimizer, settings, 10, 5, maximise)
    rates = []
    for value in [0.5, worse, worse, worse, worse]:
        schedule.after_step()
        schedule.after_epoch(value)
        rates.append(rate(optimizer))
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.05, 0.05])


@pytest.mark.parametrize(("maximise", "value"), [(True, -0.5), (True, 0.5), (False, 0.5), (False, -0.5)])
def test_plateau_whatever_the_metrics_sign(optimizer, maximise, value):
    schedule = Schedule(optimizer, PlateauSettings(factor=0.5, patience=1), 10, 5, maximise)
    rates = []
    for step in range(6):
        schedule.after_epoch(value + (1e-6 if maximise else -1e-6) * min(step, 2))  # better until the third
        rates.append(rate(optimizer))
    assert rates == [0.1, 0.1, 0.1, 0.1, 0.05, 0.05]


def test_cosine_warms_up_and_ends_at_zero(optimizer):
    schedule = Schedule(optimizer, CosineSettings(warmup_epochs=1), 4, 5, True)
    rates = [rate(optimizer)]
    for _ in range(20):
        optimizer.step()
        schedule.after_step()
        rates.append(rate(optimizer))
    assert rates[:6] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[20] == pytest.approx(0)


def test_constant_warms_up_by_steps(optimizer):
    schedule = Schedule(optimizer, ConstantSettings(warmup_steps=4), 4, 5, True)
    rates = [rate(optimizer)]
    for _ in range(6):
        optimizer.step()
        schedule.after_step()
        rates.append(rate(optimizer))
    assert rates == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1, 0.1])


def test_cosine_halfway_is_half():
    factor = cosine_with_warmup(0, 100)
    assert [factor(step) for step in (0, 50, 100, 200)] == pytest.approx([1, 0.5, 0, 0])


@pytest.mark.parametrize("name", ["plateau", "cosine", "constant"])
def test_state_goes_on(name, optimizer):
    settings = SCHEDULERS[name](**({"patience": 0} if name == "plateau" else {}))
    schedule = Schedule(optimizer, settings, 4, 5, True)
    for _ in range(3):
        optimizer.step()
        schedule.after_step()
    schedule.after_epoch(0.5)
    other = build_optimizer(nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3)), OptimizerSettings(lr=0.1))
    again = Schedule(other, settings, 4, 5, True)
    other.load_state_dict(optimizer.state_dict())
    again.load_state_dict(schedule.state_dict())
    for each, its in ((optimizer, schedule), (other, again)):
        each.step()
        its.after_step()
        its.after_epoch(0.1)
    assert rate(other) == rate(optimizer)
    assert torch.is_tensor(other.param_groups[0]["params"][0])
