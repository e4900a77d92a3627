"""Gradient checkpointing: the backward pass computes a backbone's activations again, which saves memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainer.errors import SettingsError
from trainer.models.stages import backbone_of


def checkpoint_backbone(model: nn.Module) -> None:
    """Keep only the inputs of the backbone's blocks for the backward pass (Chen et al., "Training deep nets with
    sublinear memory cost", 2016), as the model of timm defines them.

    The backward pass is to run inside `statistics_kept`. Raises SettingsError where the backbone cannot do that.
    """
    backbone = backbone_of(model, "model.gradient_checkpointing")
    try:
        backbone.set_grad_checkpointing(True)
    except (AttributeError, AssertionError) as error:  # not a model of timm; one that does not support it
        raise SettingsError(
            f"model.gradient_checkpointing: {type(backbone).__name__} does not support it; leave the setting out, or "
            f"use accumulate or another model.backbone"
        ) from error


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """A context in which batch norms update copies of their statistics: a second forward pass is not counted."""
    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm) and norm.training]
    kept = [dict(norm._buffers) for norm in norms]
    for norm, buffers in zip(norms, kept, strict=True):
        norm._buffers.update({name: value if value is None else value.clone() for name, value in buffers.items()})
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            norm._buffers.update(buffers)
