"""A model whose one output is a value in the unit of the clips' targets."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class Regressor(nn.Module):
    """A model that maps clips (B, T, 3, S, S) to values (B, 1).

    Its inner model learns targets of zero mean and unit deviation over train.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))
        if hasattr(model, "weights_origin"):
            self.weights_origin = model.weights_origin

    @property
    def backbone(self) -> nn.Module:
        return self.model.backbone

    def fit(self, targets: np.ndarray) -> None:
        """Take the mean and the deviation from train's targets, float (N,)."""
        self.mean.fill_(float(targets.mean()))
        self.deviation.fill_(float(targets.std()) or 1.0)  # equal targets have none

    def forward(self, clips: Tensor) -> Tensor:
        return self.model(clips).float() * self.deviation + self.mean
