"""Sharpness-aware steps: the gradient of the worst place nearby, taken from the weights as they were."""

import numpy as np
import pytest
import torch
from runs import SMALL
from torch import nn

from trainer.config.load import load_settings
from trainer.data.loader import ClipLoader
from trainer.devices.distributed import Group
from trainer.engine.assemble import make_engine
from trainer.engine.sam import at_worst_nearby
from trainer.shards.shard_set import open_shards
from trainer.transforms.clips import normalise, to_float

RHO = 0.5
NO_CHANGE = ("augment.flip=0", "augment.crop=1", "augment.brightness=0", "augment.contrast=0", "augment.saturation=0")


class Counting(nn.Module):
    """Batch norm, dropout and a linear layer on a clip's mean colours."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2))
        self.means = []

    def forward(self, clips):
        self.means.append(clips.mean().item())
        return self.layers(clips.mean((1, 3, 4)))


def engine_of(shards, *overrides):
    torch.manual_seed(0)
    settings = load_settings(None, (*SMALL[:2], "model.name=test_sam:Counting", "optimizer.lr=1e-2", *overrides))
    model = Counting()
    engine = make_engine(settings, shards, shards.numbers("train"), model, Group(0, 1, torch.device("cpu")))
    engine.begin_epoch(0)
    return engine, model


def gradients(model):
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


@pytest.fixture
def batch(shards_folder):
    return next(ClipLoader(shards_folder, batch_size=8).batches(0))


def test_the_gradient_is_that_of_the_worst_place_nearby(shards_folder, batch):
    shards = open_shards(shards_folder)
    engine, model = engine_of(shards, f"optimizer.sam_rho={RHO}", *NO_CHANGE)
    plain, other = engine_of(shards, *NO_CHANGE)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    engine.step_gradients(batch, 0, 0)
    # by hand, on the model whose settings know nothing of it
    plain.step_gradients(batch, 0, 0)
    first = gradients(other)
    statistics = {name: value.clone() for name, value in other.named_buffers()}
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += RHO * parameter.grad / first.norm()
    other.zero_grad()
    plain.step_gradients(batch, 0, 0)
    assert torch.allclose(gradients(model), gradients(other), atol=1e-6)
    assert not torch.allclose(gradients(model), first, atol=1e-3)
    for name, value in model.state_dict().items():
        expected = statistics.get(name, before[name])  # every clip counts once in them
        assert torch.equal(value, expected), name


@pytest.mark.parametrize("accumulate", [2, 8])
def test_parts_give_the_same_gradient(shards_folder, batch, accumulate):
    found = []
    for parts in (1, accumulate):
        engine, model = engine_of(
            open_shards(shards_folder), f"optimizer.sam_rho={RHO}", f"accumulate={parts}", *NO_CHANGE
        )
        model.eval()  # statistics and dropout differ between parts
        engine.step_gradients(batch, 0, 0)
        found.append(gradients(model))
    assert torch.allclose(*found, atol=1e-6)


def test_both_passes_see_the_same_clips_and_count_once(shards_folder, batch):
    engine, model = engine_of(open_shards(shards_folder), f"optimizer.sam_rho={RHO}")
    sums = engine.new_sums()
    engine.train_step(batch, 0, 0, sums)
    first, second = model.means
    assert first == second != normalise(to_float(batch.clips)).mean().item()
    assert float(sums["clips"]) == 8


def test_gradients_of_any_scale_move_as_far(shards_folder):
    model = nn.Linear(4, 2)
    start = model.weight.detach().clone()
    for scale in (1.0, 65536.0):
        model.zero_grad()
        (model(torch.ones(3, 4)).sum() * scale).backward()
        with at_worst_nearby(model, RHO):
            moved = torch.cat([(model.weight - start).flatten(), torch.zeros(0)])
            assert model.weight.grad is None
        assert torch.equal(model.weight, start)
        assert moved.std() < 1e-6 and 0 < moved.mean() < RHO


def test_a_step_that_is_not_finite_is_skipped_and_an_error_leaves_the_weights(shards_folder, batch):
    engine, model = engine_of(open_shards(shards_folder), f"optimizer.sam_rho={RHO}")
    start = [parameter.detach().clone() for parameter in model.parameters()]
    engine.loss = lambda outputs, labels: outputs.sum(1) * torch.inf
    engine.train_step(batch, 0, 0, engine.new_sums())
    assert engine.guard.in_a_row() == 1
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    with pytest.raises(ArithmeticError), at_worst_nearby(model, RHO):
        raise ArithmeticError
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), start, strict=True))
    assert all(np.isfinite(value.numpy()).all() for value in model.buffers())
