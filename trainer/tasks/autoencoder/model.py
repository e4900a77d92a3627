"""The autoencoder in training: diffusers' AutoencoderKL with its loss, so that it is a module like any other."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from trainer.errors import SettingsError
from trainer.models.autoencoders.load import import_diffusers
from trainer.tasks.autoencoder.settings import AutoencoderSettings

GROUPS = 32  # of the norms, at most


class TrainedAutoencoder(nn.Module):
    """The autoencoder, and what it needs to compute its own loss on pictures (B, T, 3, S, S) in −1 to 1."""

    weights_origin = "random"

    def __init__(self, settings: AutoencoderSettings, size: int) -> None:
        super().__init__()
        self.kl_weight = settings.kl_weight
        self.vae = build_vae(settings, size)

    def forward(self, pictures: Tensor, noise: Tensor) -> Tensor:
        """The loss of each clip, its mean squared error of pixels in 0 to 1, and its divergence: float32 (B, 3).

        noise: (B, T, C, h, w), what is drawn from the posterior: standard normal, or zeros for its mean. The loss is
        the mean absolute error plus `kl_weight` times the Kullback-Leibler divergence of a picture's posterior from a
        standard normal one, as in diffusers' own training of autoencoders (latent diffusion, arXiv 2112.10752).
        """
        images = pictures.flatten(0, 1)
        posterior = self.vae.encode(images).latent_dist
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        decoded = self.vae.decode(mean + (logvar / 2).exp() * noise.flatten(0, 1)).sample.float()
        errors = decoded - images.float()
        divergence = (mean.square() + logvar.exp() - 1 - logvar).sum((1, 2, 3)) / 2
        loss = errors.abs().mean((1, 2, 3)) + self.kl_weight * divergence
        found = torch.stack((loss, (errors / 2).square().mean((1, 2, 3)), divergence), dim=1)
        return found.unflatten(0, pictures.shape[:2]).mean(1)


def build_vae(settings: AutoencoderSettings, size: int) -> nn.Module:
    """An AutoencoderKL for pictures of size×size pixels. Raises SettingsError where they cannot be halved so often."""
    smaller = downsampling(settings)
    if size % smaller:
        levels = len(settings.level_channels)
        raise SettingsError(
            f"model.level_channels has {levels} levels, but pictures of {size} px cannot be halved {levels - 1} times; "
            f"give fewer, or set data.size"
        )
    return import_diffusers().AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(settings.level_channels),
        up_block_types=("UpDecoderBlock2D",) * len(settings.level_channels),
        block_out_channels=tuple(settings.level_channels),
        latent_channels=settings.latent_channels,
        norm_num_groups=math.gcd(GROUPS, *settings.level_channels),
        sample_size=size,
    )


def downsampling(settings: AutoencoderSettings) -> int:
    """Pixels per latent, along a side."""
    return 2 ** (len(settings.level_channels) - 1)
