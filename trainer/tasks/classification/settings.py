"""The settings of the losses of classification."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from trainer.config.settings import Allowed, LossSettings, NotNegative, Share
from trainer.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class ClassificationLoss(LossSettings):
    """The settings that all losses of classification share."""

    class_weights: bool = False  # weigh classes by the inverse of their frequency
    heads: dict[str, NotNegative] = field(default_factory=dict)  # weight of each head's loss, 1 for those not named


@dataclass(frozen=True, kw_only=True)
class CrossEntropy(ClassificationLoss):
    name: str = "cross_entropy"
    smoothing: Share = 0.0  # label smoothing


@dataclass(frozen=True, kw_only=True)
class Focal(ClassificationLoss):
    name: str = "focal"
    # weight of class 1 (class 0 has 1 - alpha); -1 disables it
    alpha: Annotated[float, Allowed("lie between 0 and 1, or be -1 for none", lambda a: a == -1 or 0 <= a <= 1)] = -1.0
    gamma: NotNegative = 2.0  # how much easy clips are discounted

    def __post_init__(self) -> None:
        if self.class_weights and self.alpha != -1:
            raise SettingsError(
                f"loss.class_weights is true, but loss.name=focal weighs the classes by loss.alpha={self.alpha} "
                f"already; leave one of them out"
            )


@dataclass(frozen=True, kw_only=True)
class BinaryCrossEntropy(ClassificationLoss):
    name: str = "bce"
