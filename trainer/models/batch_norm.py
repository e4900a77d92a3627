"""Batch norm that can train on a single value per channel, which is what one clip may leave of a batch."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def allow_single_values(model: nn.Module) -> None:
    """Let the model's batch norms normalise a single value per channel by their running statistics.

    It has no variance of its own, so torch raises ValueError there. The last batch of an epoch, a part of one
    (`accumulate`) and one process' share of it can be a single clip. Statistics that would count it stay as they are.
    """
    for module in model.modules():
        is_local = isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm)  # of all ranks
        if is_local and module.track_running_stats:
            module.forward = partial(_forward, module)


def _forward(norm: _BatchNorm, inputs: Tensor) -> Tensor:
    """inputs: (N, C, …). The class' own pass in both cases: timm's norms have activations inside."""
    if not norm.training or inputs.numel() > inputs.shape[1]:
        return type(norm).forward(norm, inputs)
    norm.training = False
    try:
        return type(norm).forward(norm, inputs)
    finally:
        norm.training = True
