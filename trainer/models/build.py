"""The model of a run, by its name in the settings."""

from __future__ import annotations

from torch import nn

from trainer.config.settings import ModelSettings
from trainer.errors import SettingsError
from trainer.models.custom import build_custom
from trainer.models.resnet_lstm import ResNetLSTM


def build_model(settings: ModelSettings, num_outputs: int, size: int = 224) -> nn.Module:
    """A module that maps (B, T, 3, S, S) normalised floats, S = `size` pixels, to (B, num_outputs) floats.

    Raises SettingsError where the settings do not fit each other, or the weights cannot be had.
    """
    if settings.name == "resnet_lstm":
        if settings.options:
            raise SettingsError("model.options belong to custom models; resnet_lstm has settings instead")
        return ResNetLSTM(num_outputs, settings, size)
    return build_custom(settings, num_outputs)
