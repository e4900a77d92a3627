"""What learns in which epoch, and which statistics move."""

import copy

import pytest
import torch
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
    made = ModelSettings(**{"backbone": "tiny", "weights": "none", "lstm_hidden": 8, "attention_heads": 2} | settings)
    model = build_model(made, 2, 32)
    return model, Freezing(model, made)


@pytest.mark.parametrize(
    ("backbone", "stages", "first", "last"),
    [
        (TinyResNet, 4, "stem.0.weight", "stages.2.conv1.weight"),
        (lambda: make_backbone("resnet18", "none", 32)[0], 5, "conv1.weight", "layer4.0.conv1.weight"),
        (lambda: make_backbone("test_efficientnet", "none", 32)[0], 6, "conv_stem.weight", "conv_head.weight"),
        (lambda: make_backbone("test_vit", "none", 32)[0], 7, "pos_embed", "norm.bias"),
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


def test_a_module_is_in_the_stage_of_its_parameters_or_of_what_is_around_it():
    stages = stage_numbers(make_backbone("test_vit", "none", 32, 0.1)[0])
    assert stages["blocks.2"] == stages["blocks.2.attn.qkv"] == stages["blocks.2.drop_path1"] == 3
    assert stages[""] == stages["blocks"] == 6
    assert stages["patch_embed.proj"] == stages["cls_token"] == 0


@pytest.mark.parametrize(("backbone", "norms"), [("tiny", "bn|norm|stem.1|downsample.1"), ("test_vit", "norm")])
def test_all_but_norms_leaves_only_them_and_what_follows(backbone, norms):
    model, freezing = model_of(backbone=backbone, freeze="all_but_norms")
    optimizer = build_optimizer(model, OptimizerSettings(lr=0.1))
    freezing.begin_epoch(0)
    assert all(module.training for module in model.modules())
    before = copy.deepcopy(dict(model.named_parameters()))
    model(CLIPS).sum().backward()
    optimizer.step()
    for name, value in model.named_parameters():
        learns = not name.startswith("backbone") or any(word in name for word in norms.split("|"))
        assert torch.equal(value, before[name]) != learns, name


def test_all_but_norms_where_there_are_none():
    model = nn.Module()
    model.backbone = nn.Linear(2, 2)
    with pytest.raises(SettingsError, match="has no norms that learn"):
        Freezing(model, ModelSettings(freeze="all_but_norms"))


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
    lambda: Freezing(nn.Linear(2, 2), ModelSettings(freeze="all_but_norms")),
    lambda: build_optimizer(nn.Linear(2, 2), OptimizerSettings(layer_decay=0.5)),
], ids=["model.freeze", "model.freeze again", "optimizer.layer_decay"])  # fmt: skip
def test_models_without_a_backbone(make, request):
    setting = request.node.callspec.id.split()[0]
    with pytest.raises(SettingsError, match=f"{setting}: Linear has no part called backbone"):
        make()
