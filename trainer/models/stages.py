"""The stages of a backbone, from the pixels up: they are frozen, unfrozen and slowed down as a whole."""

from __future__ import annotations

import re

from torch import nn

from trainer.errors import SettingsError

# torchvision's names of what follows the stem: ResNets, EfficientNets, ViT; and the tiny ResNet's
STAGE = re.compile(r"^(?:layer|features\.|stages\.|encoder\.layers\.encoder_layer_)(\d+)(?:\.|$)")
VIT_BLOCKS = 3  # per stage: twelve stages of one block each would take a run's epochs to thaw


def backbone_of(model: nn.Module, setting: str) -> nn.Module:
    """The model's frame encoder. Raises SettingsError, naming the setting that needs one, where it has none."""
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module):
        raise SettingsError(f"{setting}: {type(model).__name__} has no part called backbone; leave the setting out")
    return backbone


def stage_numbers(backbone: nn.Module) -> dict[str, int]:
    """The stage of every module and parameter by name, from 0 (the stem); without known names all are stage 0."""
    parameters = [name for name, _ in backbone.named_parameters()]
    names = [*(name for name, _ in backbone.named_modules()), *parameters]
    raw = {name: _raw_stage(name) for name in names}
    last = max(raw.values())
    raw |= {name: last for name in names if name.startswith("encoder.ln")}  # a ViT's last norm, after its blocks
    ranks = {stage: rank for rank, stage in enumerate(sorted({raw[name] for name in parameters}))}
    return {name: ranks.get(stage, 0) for name, stage in raw.items()}


def _raw_stage(name: str) -> int:
    found = STAGE.match(name)
    if not found:
        return -1
    return int(found[1]) // VIT_BLOCKS if name.startswith("encoder.") else int(found[1])
