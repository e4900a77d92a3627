"""Normalised clips as an encoder expects them that was trained with another mean and deviation than ImageNet's."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from trainer.transforms.clips import renormalisation


class Renormalise(nn.Module):
    """Clips normalised over ImageNet as an encoder expects them, by its own mean and deviation."""

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        factor, shift = renormalisation(mean, deviation)
        self.register_buffer("factor", factor, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    def forward(self, clips: Tensor) -> Tensor:
        return clips * self.factor + self.shift
