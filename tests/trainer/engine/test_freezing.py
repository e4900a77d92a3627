"""What learns in which epoch, and which statistics move."""

import copy

import pytest
import torch
import torchvision
from torch import nn

from trainer.config.settings import ModelSettings, OptimizerSettings
from trainer.engine.freezing import Freezing
from trainer.engine.optimizer import build_optimizer
from trainer.errors import SettingsError
from trainer.models.backbones import TinyResNet, make_backbone
from trainer.models.build import build_model
from trainer.models.stages import stage_numbers

CLIPS = torch.rand(2, 3, 3, 32, 32)


def model_of(**settings):
    torch.manual_seed(0)
    made = ModelSettings(backbone="tiny", weights="none", lstm_hidden=8, attention_heads=2, **settings)
    model = build_model(made, 2, 32)
    return model, Freezing(model, made)


@pytest.mark.parametrize(
    ("backbone", "stages", "first", "last"),
    [
        (TinyResNet, 4, "stem.0.weight", "stages.2.conv1.weight"),
        (lambda: make_backbone("resnet18", "none", 32)[0], 5, "conv1.weight", "layer4.0.conv1.weight"),
        (lambda: make_backbone("efficientnet_b0", "none", 32)[0], 9, "features.0.0.weight", "features.8.0.weight"),
        (lambda: torchvision.models.VisionTransformer(32, 16, 6, 2, 16, 32), 3, "conv_proj.weight", "encoder.ln.bias"),
        (lambda: nn.Linear(2, 2), 1, "weight", "bias"),
    ],
    ids=["tiny", "resnet", "efficientnet", "vit", "other"],
)
def test_stages(backbone, stages, first, last):
    made = backbone()
    numbers = stage_numbers(made)
    learning = {numbers[name] for name, _ in made.named_parameters()}
    assert learning == set(range(stages))
    assert (numbers[first], numbers[last]) == (0, stages - 1)


def test_stages_thaw_from_the_last_to_the_first():
    model, freezing = model_of(freeze="backbone", unfreeze_every=2)
    stages = stage_numbers(model.backbone)
    for epoch, frozen in enumerate([4, 4, 3, 3, 2, 2, 1, 1, 0, 0]):
        changed = freezing.begin_epoch(epoch)
        assert changed == (epoch % 2 == 0)
        learning = {stages[name] for name, p in model.backbone.named_parameters() if p.requires_grad}
        assert learning == set(range(frozen, 4))
        assert all(p.requires_grad for name, p in model.named_parameters() if not name.startswith("backbone"))


def test_frozen_stages_keep_weights_and_statistics_and_the_rest_learns():
    model, freezing = model_of(freeze="backbone", unfreeze_every=1)
    optimizer = build_optimizer(model, OptimizerSettings(lr=0.1))
    freezing.begin_epoch(1)  # the last stage has joined
    before = copy.deepcopy(model.state_dict())
    model(CLIPS).sum().backward()
    optimizer.step()
    stages = {f"backbone.{name}": stage for name, stage in stage_numbers(model.backbone).items()}
    for name, value in model.state_dict().items():
        is_frozen = stages.get(name, stages.get(name.rpartition(".")[0], 4)) < 3
        assert torch.equal(value, before[name]) == is_frozen, name


@pytest.mark.parametrize("batch_norm", ["train", "frozen"])
def test_statistics_of_batch_norm(batch_norm):
    model, freezing = model_of(batch_norm=batch_norm)
    freezing.begin_epoch(0)
    before = copy.deepcopy(dict(model.named_buffers()))
    model(CLIPS).sum().backward()
    moved = [name for name, value in model.named_buffers() if not torch.equal(value, before[name])]
    assert bool(moved) == (batch_norm == "train")
    assert model.backbone.stem[1].weight.grad is not None, "scale and shift learn all the same"
    assert model.head[0].training, "dropout goes on"


def test_layer_decay_slows_the_lower_stages():
    model, _ = model_of()
    optimizer = build_optimizer(model, OptimizerSettings(lr=1.0, layer_decay=0.5))
    assert optimizer.param_groups[0]["lr"] == 1.0, "the head's comes first: it is what people are shown"
    rates = {parameter: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert len(rates) == len(list(model.parameters()))
    assert rates[model.head[1].weight] == rates[model.lstm.weight_hh_l0] == 1.0
    assert rates[model.backbone.stages[2].conv1.weight] == rates[model.backbone.stages[2].bn1.bias] == 0.5
    assert rates[model.backbone.stem[0].weight] == 1 / 16


@pytest.mark.parametrize("make", [
    lambda: Freezing(nn.Linear(2, 2), ModelSettings(freeze="backbone")),
    lambda: build_optimizer(nn.Linear(2, 2), OptimizerSettings(layer_decay=0.5)),
], ids=["model.freeze", "optimizer.layer_decay"])  # fmt: skip
def test_models_without_a_backbone(make, request):
    with pytest.raises(SettingsError, match=f"{request.node.callspec.id}: Linear has no part called backbone"):
        make()
