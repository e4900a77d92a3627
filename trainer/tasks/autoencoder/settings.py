"""The settings of an autoencoder that is trained here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainer.config.settings import NotNegative, PositiveInt
from trainer.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class AutoencoderSettings:
    name: str = "autoencoder"
    level_channels: list[PositiveInt] | Literal["auto"] = "auto"  # finest level first; each halves the sides but one
    latent_channels: PositiveInt = 4
    kl_weight: NotNegative = 1e-6  # of the posterior's divergence, beside the mean absolute error of pixels

    # settings of other models that this one does not have
    backbone, weights, freeze, unfreeze_every, batch_norm = None, "none", "none", 0, "train"
    gradient_checkpointing = compile = False

    def __post_init__(self) -> None:
        if not self.level_channels:
            raise SettingsError("model.level_channels is []; give at least one level, for example [8, 16, 32], or auto")

    @property
    def described(self) -> str:
        """The model in words."""
        return f"autoencoder of {', '.join(map(str, self.level_channels))} channels"

    def for_saved_weights(self) -> AutoencoderSettings:
        """The same model, whose weights will come from a run's file."""
        return self
