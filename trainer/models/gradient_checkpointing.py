"""Gradient checkpointing: the backward pass computes a backbone's activations again, which saves memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint
from torchvision.models.efficientnet import FusedMBConv, MBConv
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.vision_transformer import EncoderBlock

from trainer.errors import SettingsError
from trainer.models.stages import backbone_of

BLOCKS = (BasicBlock, Bottleneck, MBConv, FusedMBConv, EncoderBlock)


def checkpoint_blocks(model: nn.Module) -> None:
    """Keep only the inputs of the backbone's blocks for the backward pass (Chen et al., "Training deep nets with
    sublinear memory cost", 2016).

    Raises SettingsError where the model has no backbone of torchvision's blocks.
    """
    backbone = backbone_of(model, "model.gradient_checkpointing")
    blocks = [module for module in backbone.modules() if type(module) in BLOCKS]
    if not blocks:
        names = ", ".join(block.__name__ for block in BLOCKS)
        raise SettingsError(f"model.gradient_checkpointing: the backbone has no blocks of torchvision's ({names})")
    for block in blocks:
        block.forward = partial(_checkpointed, block)


def _checkpointed(block: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    forward = partial(type(block).forward, block)
    if not torch.is_grad_enabled():
        return forward(inputs)
    return checkpoint(forward, inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), statistics_kept(block)))


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
