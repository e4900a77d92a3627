"""What can be learned: each task is a folder."""

from __future__ import annotations

from torch import nn

from trainer.config.settings import Settings
from trainer.tasks.classification.task import build_model
from trainer.tasks.regression.regressor import Regressor


def build_for(settings: Settings, num_classes: int, size: int) -> nn.Module:
    """The model of a run: (B, T, 3, S, S) → logits (B, num_classes), or in regression values (B, 1)."""
    if settings.loss.is_regression:
        return Regressor(build_model(settings.model, 1, size))
    return build_model(settings.model, num_classes, size)
