"""The values that settings of `auto` come to: they are recorded and compared as they were used."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from trainer.config.load import flatten, from_dict
from trainer.config.settings import ModelSettings, Settings, is_custom
from trainer.errors import SettingsError

OF_RESNET_LSTM = (
    "backbone", "weights", "drop_path", "differences", "temporal", "lstm_hidden", "lstm_layers", "attention_heads",
    "pool", "head", "dropout",
)  # fmt: skip
OF_THE_MACHINE = (
    "model.backbone", "model.batch_norm", "model.video.encoder", "model.audio.encoder", "model.level_channels",
    "batch_size", "metric",
)  # fmt: skip


def check_used(settings: Settings) -> None:
    """Raises SettingsError where a setting would do nothing, since a custom model has no such part."""
    model = settings.model
    if not is_custom(model):
        return
    idle = [name for name in OF_RESNET_LSTM if getattr(model, name) != getattr(ModelSettings, name)]
    if idle:
        raise SettingsError(
            f"model.{idle[0]} is {getattr(model, idle[0])}, but only resnet_lstm has it, not {model.name}; leave it "
            f"out, or give your class an argument and pass that with model.options"
        )


def take_over(settings: Settings, earlier: dict) -> Settings:
    """The settings of a resumed run: it keeps what `auto` came to in its first part, whatever that would be now."""
    values, known = settings.to_dict(), flatten(earlier)
    for key in OF_THE_MACHINE:
        *groups, name = key.split(".")
        place = values
        for group in groups:
            place = place.get(group, {})
        if place.get(name) == "auto" and known.get(key, "loss") != "loss":  # that may stand in for an undefined metric,
            place[name] = known[key]  # which is found out again, with the note that says so
    return from_dict(values)


def resolve_by_device(settings: Settings, device: torch.device) -> Settings:
    """The settings with a definite model.backbone."""
    if settings.model.backbone == "auto" and not is_custom(settings.model):
        return with_model(settings, backbone="resnet50" if device.type == "cuda" else "resnet18")
    return settings


def resolve_by_model(settings: Settings, model: nn.Module) -> Settings:
    """The settings with a definite model.batch_norm: those that came with weights are kept.

    Clips are correlated and batches small. Raises SettingsError where random weights would stay as they are.
    """
    origin = getattr(model, "weights_origin", "")  # a custom model may lack it
    freeze = settings.model.freeze
    if freeze != "none" and origin.startswith("random") and not settings.model.unfreeze_every:
        raise SettingsError(
            f"model.freeze is {freeze}, but the backbone's weights are random and would never learn; pass "
            f"model.weights=PATH, or leave model.freeze out"
        )
    if settings.model.batch_norm != "auto":
        return settings
    is_pretrained = origin and not origin.startswith("random")
    return with_model(settings, batch_norm="frozen" if is_pretrained else "train")


def with_model(settings: Settings, **changes) -> Settings:
    return dataclasses.replace(settings, model=dataclasses.replace(settings.model, **changes))
