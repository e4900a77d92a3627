"""The latent diffusion model in training: diffusers' UNet with its loss, so that it is a module like any other."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from trainer.errors import SettingsError
from trainer.models.autoencoders.load import import_diffusers
from trainer.tasks.diffusion.losses import loss_weights, signal_shares
from trainer.tasks.diffusion.settings import DiffusionSettings

QUARTERS = 4  # of the timesteps, which losses are told by
GROUPS = 32  # of the norms, at most


class LatentDiffusion(nn.Module):
    """The UNet, and what it needs to compute its own loss on latents (B, C, h, w).

    K classes; the label K says that there is none. Latents are standardised by `mean` and `std`, (C, 1, 1).
    """

    weights_origin = "random"

    def __init__(self, settings: DiffusionSettings, num_classes: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.settings = settings
        self.unet = build_unet(settings, num_classes, shape)
        self.register_buffer("mean", torch.zeros(shape[0], 1, 1))
        self.register_buffer("std", torch.ones(shape[0], 1, 1))
        self.register_buffer("signal", signal_shares(settings).float(), persistent=False)
        self.register_buffer("noise", (1 - signal_shares(settings)).float(), persistent=False)
        self.register_buffer("weights", loss_weights(settings).float(), persistent=False)

    def forward(self, moments: Tensor, labels: Tensor, timesteps: Tensor, noise: Tensor, posterior: Tensor) -> Tensor:
        """The loss of each clip, and its quarter of the timesteps, 0 with the least noise: float32 (B, 2).

        moments: (B, 2C, h, w), mean and log-variance; labels, timesteps: int64 (B,); noise, posterior: standard normal
        (B, C, h, w), what is added to the latents, and what is drawn from the autoencoder's posterior.
        """
        mean, log_variance = moments.float().chunk(2, dim=1)
        if self.settings.posterior == "sample":
            mean = mean + (0.5 * log_variance.clamp(-30, 20)).exp() * posterior
        latents = (mean - self.mean) / self.std
        signal, share = (values[timesteps, None, None, None].sqrt() for values in (self.signal, self.noise))
        target = noise if self.settings.predict == "noise" else signal * noise - share * latents
        found = self.unet(signal * latents + share * noise, timesteps, class_labels=labels).sample
        errors = (found.float() - target).square().mean((1, 2, 3))
        quarter = timesteps * QUARTERS // self.settings.timesteps
        return torch.stack((self.weights[timesteps] * errors, quarter.float()), dim=1)


def build_unet(settings: DiffusionSettings, num_classes: int, shape: tuple[int, int, int]) -> nn.Module:
    """diffusers' UNet2DModel for latents of this shape (C, h, w), attention at the two lower levels but the finest.

    Raises SettingsError where the latents cannot be halved so often, or diffusers is not there.
    """
    levels = len(settings.channels)
    if any(side % 2 ** (levels - 1) for side in shape[1:]):
        raise SettingsError(
            f"model.channels has {levels} levels, but latents of {shape[1]} × {shape[2]} cannot be halved "
            f"{levels - 1} times; give fewer"
        )
    attends = [0 < level >= levels - 2 for level in range(levels)]
    return import_diffusers().UNet2DModel(
        sample_size=tuple(shape[1:]),
        in_channels=shape[0],
        out_channels=shape[0],
        layers_per_block=settings.layers,
        block_out_channels=tuple(settings.channels),
        down_block_types=tuple("AttnDownBlock2D" if here else "DownBlock2D" for here in attends),
        up_block_types=tuple("AttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attends)),
        norm_num_groups=math.gcd(GROUPS, *settings.channels),
        num_class_embeds=num_classes + 1,
    )
