"""An exponential moving average of a model's weights and of its batch norms' statistics."""

from __future__ import annotations

import copy

import torch
from torch import nn


class MovingAverage:
    """The moving average of a model, in `module`, from the model as it is now.

    average = decay · average + (1 - decay) · model (Polyak and Juditsky, "Acceleration of stochastic approximation by
    averaging", 1992). After n updates the decay is (1 + n) / (10 + n) at most, as TensorFlow has it: what a short run
    began with would be most of its average. torch's AveragedModel knows no such start, and makes the CPU wait for the
    GPU at every step.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).requires_grad_(False)
        for module in self.module.modules():
            if isinstance(module, nn.RNNBase):
                module.flatten_parameters()  # a copy's are scattered: cuDNN would gather them at every call
        self._decay, self._updates = decay, 0
        values, averages = ([*part.parameters(), *part.buffers()] for part in (model, self.module))
        pairs = list(zip(averages, values, strict=True))
        self._floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average, after a step of the model that it was made of."""
        averages, values = zip(*self._floats, strict=True)
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        torch._foreach_lerp_(averages, values, 1 - decay)
        for average, value in self._counts:
            average.copy_(value)

    def state_dict(self) -> dict:
        return {"module": self.module.state_dict(), "updates": self._updates}

    def load_state_dict(self, state: dict) -> None:
        self.module.load_state_dict(state["module"])
        self._updates = state["updates"]
