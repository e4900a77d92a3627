"""A single clip in a batch, in a part of one, or in one process' share: batch norm has one value per channel."""

import copy

import pytest
import torch
from runs import SMALL
from timm.layers import BatchNormAct2d
from torch import nn

from trainer.config.load import load_settings
from trainer.data.loader import ClipLoader
from trainer.devices.distributed import Group
from trainer.engine.assemble import make_engine
from trainer.models.batch_norm import allow_single_values
from trainer.shards.shard_set import open_shards

SHAPES = {nn.BatchNorm1d: (), nn.BatchNorm2d: (1, 1), nn.BatchNorm3d: (1, 1, 1)}


def used(kind):
    """A batch norm that has seen something, and allows single values."""
    torch.manual_seed(0)
    norm = kind(3)
    nn.init.normal_(norm.weight)
    norm(torch.randn(20, 3, *SHAPES[kind]) + 2)
    allow_single_values(norm)
    return norm


@pytest.mark.parametrize("kind", SHAPES)
def test_one_value_is_normalised_by_the_running_statistics(kind):
    norm, value = used(kind), torch.randn(1, 3, *SHAPES[kind])
    before, expected = copy.deepcopy(norm.state_dict()), copy.deepcopy(norm).eval()(value)
    output = norm(value)
    assert torch.equal(output, expected)
    assert all(torch.equal(values, before[name]) for name, values in norm.state_dict().items())
    output.sum().backward()
    assert norm.weight.grad.abs().min() > 0 and norm.bias.grad.tolist() == [1, 1, 1]


@pytest.mark.parametrize("kind", SHAPES)
def test_two_values_are_normalised_as_ever(kind):
    norm, values = used(kind), torch.randn(2, 3, *SHAPES[kind])
    plain = kind(3)
    plain.load_state_dict(norm.state_dict())
    assert torch.equal(norm(values), plain(values))
    assert torch.equal(norm.running_var, plain.running_var) and norm.num_batches_tracked == 2
    assert torch.equal(norm.eval()(values), plain.eval()(values))


def test_the_activation_inside_a_norm_is_kept():
    norm = BatchNormAct2d(3)
    norm(torch.randn(20, 3, 1, 1))
    allow_single_values(norm)
    value = torch.tensor([-9.0, 0.5, 9.0]).view(1, 3, 1, 1)
    assert torch.equal(norm(value), copy.deepcopy(norm).eval()(value)) and norm(value).min() == 0
    assert norm.training


def test_a_copy_has_statistics_of_its_own():
    norm, values = used(nn.BatchNorm1d), torch.randn(4, 3)
    before = norm.running_mean.clone()
    copy.deepcopy(norm)(values)
    assert torch.equal(norm.running_mean, before)


class Normed(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, num_classes))

    def forward(self, clips):
        return self.layers(clips.mean((1, 3, 4)))


@pytest.mark.parametrize("overrides", [("batch_size=19",), ("batch_size=6", "accumulate=4"), ("batch_size=1",)])
def test_every_clip_of_an_epoch_counts_once(shards_folder, overrides):
    shards, model = open_shards(shards_folder), Normed(2)
    settings = load_settings(None, (*SMALL, *overrides))
    engine = make_engine(settings, shards, shards.numbers("train"), model, Group(0, 1, torch.device("cpu")))
    sums, before = engine.new_sums(), copy.deepcopy(model.state_dict())
    engine.train_epoch(ClipLoader(shards, batch_size=settings.batch_size), 0, 0, sums, lambda step: False)
    assert sums["loss"].isfinite() and sums["clips"] == 20
    assert not any(torch.equal(weights, before[name]) for name, weights in model.named_parameters())
