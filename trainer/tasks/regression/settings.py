"""The settings of the losses of regression, which have none but their name."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.config.settings import LossSettings


@dataclass(frozen=True, kw_only=True)
class SquaredError(LossSettings):
    name: str = "mse"


@dataclass(frozen=True, kw_only=True)
class AbsoluteError(LossSettings):
    name: str = "l1"
