"""Less memory and other speed, the same result: gradient checkpointing and torch.compile."""

import copy
import functools

import pytest
import torch
from runs import ALONE, SMALL
from torch import nn

from trainer.config.load import load_settings
from trainer.data.loader import ClipLoader
from trainer.engine.assemble import make_engine, make_model
from trainer.errors import SettingsError
from trainer.models.backbones import make_backbone
from trainer.models.compile import compile_backbone
from trainer.models.gradient_checkpointing import checkpoint_backbone, statistics_kept
from trainer.shards.shard_set import open_shards

FRAMES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


class Holder(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, frames):
        return self.backbone(frames)


# with the part that is called again in the backward pass
BACKBONES = {
    "tiny": lambda backbone: backbone.stages[1].conv1,
    "test_efficientnet": lambda backbone: backbone.blocks[1][0].conv_exp,
    "test_resnet": lambda backbone: backbone.layer2[0].conv1,
    "test_vit": lambda backbone: backbone.blocks[0].norm1,
}


def step_of(model):
    """Gradients, and buffers after it, of one step whose dropouts are drawn anew from the same seed."""
    torch.manual_seed(3)
    outputs = model(FRAMES)
    with statistics_kept(model):
        (outputs**2).sum().backward()
    return [parameter.grad for parameter in model.parameters()], list(model.buffers())


@pytest.mark.parametrize("name", BACKBONES)
def test_checkpointed_blocks_give_the_same_step(name):
    torch.manual_seed(0)
    plain = Holder(make_backbone(name, "none", 32, 0.0 if name == "tiny" else 0.3)[0]).train()
    checkpointed = copy.deepcopy(plain)
    checkpoint_backbone(checkpointed)
    calls = []
    BACKBONES[name](checkpointed.backbone).register_forward_hook(lambda *_: calls.append(1))
    (gradients, buffers), (expected, expected_buffers) = step_of(checkpointed), step_of(plain)
    assert len(calls) == 2, "computed again in the backward pass"
    assert all(torch.equal(a, b) for a, b in zip(gradients, expected, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(buffers, expected_buffers, strict=True))
    with torch.inference_mode():
        checkpointed.eval()(FRAMES)
    assert len(calls) == 3


def test_the_engine_counts_statistics_once(shards_folder):
    shards = open_shards(shards_folder)
    states = []
    for enabled in (False, True):
        torch.manual_seed(0)
        settings = load_settings(None, (*SMALL, "batch_size=6", f"model.gradient_checkpointing={enabled}"))
        model = make_model(settings, shards, shards.numbers("train"), None)
        engine = make_engine(settings, shards, shards.numbers("train"), model, ALONE)
        engine.begin_epoch(0)
        engine.train_step(next(ClipLoader(shards, batch_size=6).batches(0)), 0, 0, engine.new_sums())
        states.append(model.state_dict())
    assert all(map(torch.equal, states[0].values(), states[1].values()))
    assert states[1]["backbone.stages.1.bn1.num_batches_tracked"] == 1


def test_backbones_that_cannot_do_it():
    with pytest.raises(SettingsError, match="gradient_checkpointing: Conv2d does not support it"):
        checkpoint_backbone(Holder(nn.Conv2d(3, 4, 3)))
    with pytest.raises(SettingsError, match="gradient_checkpointing: DLA does not support it"):
        checkpoint_backbone(Holder(make_backbone("dla46_c", "none", 32)[0]))
    with pytest.raises(SettingsError, match="Linear has no part called backbone"):
        checkpoint_backbone(nn.Linear(2, 2))


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, frames):
        return self.norm(self.conv(frames)).relu().mean((2, 3))


def no_compiler(graph, inputs):
    raise OSError("no compiler\nis here")


def test_what_cannot_be_compiled_runs_as_it_is(monkeypatch):
    """With Dynamo; to load the compiler itself, only to see it fail, takes seconds."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=no_compiler))
    torch.manual_seed(0)
    model = Holder(Small()).train()
    before, expected, random = copy.deepcopy(model.state_dict()), copy.deepcopy(model)(FRAMES), torch.get_rng_state()
    why_not = compile_backbone(model, FRAMES, torch.autocast("cpu", enabled=False))
    assert why_not.startswith("torch.compile does not work here (")
    assert "\n" not in why_not
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(model(FRAMES), expected)
