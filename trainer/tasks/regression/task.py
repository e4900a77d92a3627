"""Regression: the clips' targets, and the unit that errors are measured in."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from trainer.config.settings import Settings
from trainer.data.shard_set import ShardSet
from trainer.errors import FormatError
from trainer.tasks.regression.regressor import Regressor


def targets_of(shards: ShardSet, numbers: np.ndarray) -> np.ndarray:
    """float64 (N,). Raises FormatError where that of any clip, of whatever split, is not finite."""
    targets = shards.samples["target"]
    is_bad = ~np.isfinite(targets)
    if is_bad.any():
        number = int(is_bad.argmax())
        raise FormatError(f"{shards.where(number)}: its target is {targets[number]}; correct the manifest, build again")
    return targets[numbers]


def target_notes(settings: Settings, shards: ShardSet) -> list[str]:
    """For people: what regression would learn without saying so."""
    if settings.loss.is_regression and (shards.samples["target"] == shards.samples["label"]).all():
        return [f"every target is its class's number, 0 for {shards.classes[0]}: the shards were built without targets"]
    return []


def loss_unit(model: nn.Module) -> Tensor | float:
    """What errors are measured in; a tensor is on the model's device."""
    return model.deviation if isinstance(model, Regressor) else 1.0
