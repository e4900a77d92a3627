"""An exponential moving average of a model's weights and of its batch norms' statistics."""

from __future__ import annotations

import copy

import torch
from torch import nn


class MovingAverage:
    """`module` is the average: average ← decay · average + (1 - decay) · model, from the model as it is now.

    Polyak and Juditsky, "Acceleration of stochastic approximation by averaging" (1992). torch's AveragedModel keeps
    its count of updates on the host and copies it at every step, which makes the CPU wait for the GPU.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).requires_grad_(False)
        for module in self.module.modules():
            if isinstance(module, nn.RNNBase):
                module.flatten_parameters()  # a copy's are scattered: cuDNN would gather them at every call
        self._decay = decay
        values, averages = ([*part.parameters(), *part.buffers()] for part in (model, self.module))
        pairs = list(zip(averages, values, strict=True))
        self._floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """After a step of the model that it was made of."""
        averages, values = zip(*self._floats, strict=True)
        torch._foreach_lerp_(averages, values, 1 - self._decay)
        for average, value in self._counts:
            average.copy_(value)
