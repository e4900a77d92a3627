"""Models by name: ours, or anybody's own as `package.module:Class`."""

from __future__ import annotations

import importlib
import inspect

from torch import nn

from trainer.errors import SettingsError
from trainer.models.regressor import Regressor
from trainer.models.resnet_lstm import ResNetLSTM
from trainer.settings import ModelSettings, Settings


def build_for(settings: Settings, num_classes: int, size: int) -> nn.Module:
    """The model of a run: (B, T, 3, S, S) → logits (B, num_classes), or in regression values (B, 1)."""
    if settings.loss.is_regression:
        return Regressor(build_model(settings.model, 1, size))
    return build_model(settings.model, num_classes, size)


def build_model(settings: ModelSettings, num_classes: int, size: int = 224) -> nn.Module:
    """A module that maps (B, T, 3, S, S) normalised floats, S = `size` pixels, to (B, num_classes) logits.

    Raises SettingsError where the settings do not fit each other, or the weights cannot be had.
    """
    if settings.name == "resnet_lstm":
        if settings.options:
            raise SettingsError("model.options belong to a model of your own; resnet_lstm has settings instead")
        return ResNetLSTM(num_classes, settings, size)
    module, separator, name = settings.name.partition(":")
    if not separator:
        raise SettingsError(f"model.name is {settings.name}; use resnet_lstm or package.module:Class")
    try:
        model = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"model.name: {settings.name} cannot be imported ({error})") from error
    try:
        inspect.signature(model).bind(num_classes, **settings.options)
    except TypeError as error:
        raise SettingsError(f"model.name: {settings.name} does not take these model.options ({error})") from error
    return model(num_classes, **settings.options)
