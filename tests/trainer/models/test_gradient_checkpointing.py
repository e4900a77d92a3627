"""Less memory and other speed, the same result: gradient checkpointing and torch.compile."""

import copy
import functools

import pytest
import torch
import torchvision
from torch import nn

from trainer.errors import SettingsError
from trainer.models.backbones import TinyResNet, load_backbone
from trainer.models.compile import compile_backbone
from trainer.models.gradient_checkpointing import checkpoint_blocks

FRAMES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


class Holder(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, frames):
        return self.backbone(frames)


def small_vit(size=32):
    backbone = torchvision.models.VisionTransformer(size, 16, 2, 2, 16, 32, dropout=0.1)
    backbone.heads = nn.Identity()
    return backbone


BACKBONES = {
    "tiny": (TinyResNet, lambda backbone: backbone.stages[1].conv1),
    "efficientnet": (torchvision.models.efficientnet_b0, lambda backbone: backbone.features[2][1].block[0]),
    "vit": (small_vit, lambda backbone: backbone.encoder.layers[0].ln_1),
}


def step_of(model):
    """Gradients, and buffers after it, of one step whose dropouts are drawn anew from the same seed."""
    torch.manual_seed(3)
    (model(FRAMES) ** 2).sum().backward()
    return [parameter.grad for parameter in model.parameters()], list(model.buffers())


@pytest.mark.parametrize("name", BACKBONES)
def test_checkpointed_blocks_give_the_same_step(name):
    make, part_of = BACKBONES[name]
    torch.manual_seed(0)
    plain = Holder(make()).train()
    checkpointed = copy.deepcopy(plain)
    checkpoint_blocks(checkpointed)
    calls = []
    part_of(checkpointed.backbone).register_forward_hook(lambda *_: calls.append(1))
    (gradients, buffers), (expected, expected_buffers) = step_of(checkpointed), step_of(plain)
    assert len(calls) == 2, "computed again in the backward pass"
    assert all(torch.equal(a, b) for a, b in zip(gradients, expected, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(buffers, expected_buffers, strict=True))
    with torch.inference_mode():
        checkpointed.eval()(FRAMES)
    assert len(calls) == 3


def test_a_copy_of_a_checkpointed_model_is_its_own():
    model = Holder(TinyResNet())
    checkpoint_blocks(model)
    other = copy.deepcopy(model)
    (other(FRAMES) ** 2).sum().backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(parameter.grad is not None for parameter in other.parameters())


def test_a_backbone_without_blocks():
    with pytest.raises(SettingsError, match="gradient_checkpointing: the backbone has no blocks"):
        checkpoint_blocks(Holder(nn.Conv2d(3, 4, 3)))
    with pytest.raises(SettingsError, match="Linear has no part called backbone"):
        checkpoint_blocks(nn.Linear(2, 2))


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


def test_position_embeddings_are_interpolated_to_the_size():
    torch.manual_seed(0)
    large, small = small_vit(64), small_vit(32)
    with torch.no_grad():
        large.encoder.pos_embedding.copy_(torch.arange(17.0)[None, :, None].expand(1, 17, 16))
    load_backbone(small, large.state_dict(), "large", 32)
    got = small.encoder.pos_embedding[0, :, 0]
    assert got[0] == 0, "the class token's stays"
    assert got.shape == (5,)
    assert got[1:].mean().item() == pytest.approx(8.5, abs=0.01)
    assert torch.equal(small.conv_proj.weight, large.conv_proj.weight)
