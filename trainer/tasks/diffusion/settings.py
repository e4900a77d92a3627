"""The settings of the latent diffusion model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from trainer.config.settings import NotNegative, NotNegativeInt, PositiveInt, Share
from trainer.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class DiffusionSettings:
    name: str = "diffusion"
    channels: list[PositiveInt] = field(default_factory=lambda: [48, 96, 192])  # of the UNet's levels, finest first
    layers: PositiveInt = 1  # residual blocks of each level
    timesteps: PositiveInt = 1000
    schedule: Literal["cosine", "linear"] = "cosine"  # of the noise
    predict: Literal["v", "noise"] = "v"
    min_snr_gamma: NotNegative = 5.0  # largest signal-to-noise ratio that weighs in the loss; 0: every one does
    label_dropout: Share = 0.1  # share of the clips that are trained on without their class, for guidance
    posterior: Literal["sample", "mean"] = "sample"  # of the autoencoder: draw a latent anew each time, or its mean
    normalise: Literal["channel", "scalar", "none"] = "channel"  # latents by mean and deviation over train
    sample_every_steps: NotNegativeInt = 2000  # a sheet of samples with the next validation; 0: none
    keep_steps: list[PositiveInt] = field(default_factory=list)  # whose averaged weights stay, each a validation's

    # settings of other models that this one does not have
    backbone, weights, freeze, unfreeze_every, batch_norm = None, "none", "none", 0, "train"
    gradient_checkpointing = compile = False

    def __post_init__(self) -> None:
        if not self.channels:
            raise SettingsError("model.channels is []; give at least one level, for example [48, 96, 192]")

    @property
    def described(self) -> str:
        """The model in words."""
        return f"latent diffusion, UNet of {', '.join(map(str, self.channels))} channels"

    def for_saved_weights(self) -> DiffusionSettings:
        """The same model, whose weights will come from a run's file."""
        return self
