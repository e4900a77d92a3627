"""Sharpness-aware minimization: gradients from the worst place near the weights instead of from the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def at_worst_nearby(model: nn.Module, rho: float) -> Iterator[None]:
    """Within, the weights stand `rho` up their gradient and the gradients are gone; after it, weights are as before.

    Foret et al., "Sharpness-aware minimization for efficiently improving generalization", ICLR 2021 (arXiv 2010.01412).
    What the second pass within does to buffers (statistics of batch norm) is taken back as well, so that each clip
    counts once. The direction does not depend on the gradients' scale; where they are not finite, neither are those of
    the second pass, and the step is skipped as any other.
    """
    moved = [parameter for parameter in model.parameters() if parameter.grad is not None]
    kept = [*moved, *model.buffers()]
    before = [tensor.detach().clone() for tensor in kept]
    gradients = [parameter.grad for parameter in moved]
    with torch.no_grad():
        scale = rho / nn.utils.get_total_norm(gradients).clamp(min=1e-12)
        torch._foreach_add_(moved, torch._foreach_mul(gradients, scale))
    for parameter in moved:
        parameter.grad = None
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(kept, before, strict=True):
                tensor.copy_(value)
