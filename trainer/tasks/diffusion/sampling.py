"""Samples of a diffusion model: latents of given classes out of noise, with classifier-free guidance."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from trainer.errors import SettingsError
from trainer.models.autoencoders.load import import_diffusers
from trainer.tasks.diffusion.losses import scheduler_options

if TYPE_CHECKING:
    from trainer.tasks.diffusion.settings import DiffusionSettings

Sampler = Literal["ddim", "ddpm", "dpm-solver"]
SAMPLERS: dict[str, str] = {  # its class in diffusers
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "dpm-solver": "DPMSolverMultistepScheduler",
}


@torch.inference_mode()
def sample(
    unet: nn.Module,
    labels: Tensor,
    noise: Tensor,
    *,
    settings: DiffusionSettings,
    guidance: float = 1.0,
    rescale: float = 0.0,
    sampler: Sampler = "ddim",
    steps: int = 50,
) -> Tensor:
    """Standardised latents, float32 (B, C, h, w), of these classes, int64 (B,), out of standard normal noise.

    Each follows from its own noise and class alone, whatever it is sampled with. unet: diffusers' UNet2DModel, in
    evaluation mode, on the device of labels and noise. guidance: 1 asks the model once, with the class, 0 once without;
    else the step without the class is lengthened so many times towards the one with it (Ho and Salimans,
    "Classifier-free diffusion guidance", arXiv 2207.12598). rescale: from 0 to 1, how far guided steps get the
    deviation of unguided ones (Lin et al., "Common diffusion noise schedules and sample steps are flawed", arXiv
    2305.08891). Raises SettingsError for steps that the schedule does not have.
    """
    scheduler = make_scheduler(sampler, settings, steps, noise.device)
    # for the steps of ddpm, which draw noise of their own
    generators = [torch.Generator().manual_seed(zlib.crc32(own.cpu().numpy().tobytes())) for own in noise]
    latents = noise.float() * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        found = guided(unet, latents, timestep, labels, guidance, rescale)
        latents = scheduler.step(found, timestep, latents, generator=generators).prev_sample
    return latents


def make_scheduler(sampler: Sampler, settings: DiffusionSettings, steps: int, device: torch.device):
    """diffusers' scheduler for so many steps, the first one at the last timestep. Raises SettingsError."""
    if not 0 < steps <= settings.timesteps:
        raise SettingsError(f"steps is {steps}; it must lie between 1 and the {settings.timesteps} of the model")
    options = {"timestep_spacing": "trailing", **scheduler_options(settings)}
    if sampler != "dpm-solver":
        options["clip_sample"] = False  # latents are not bounded
    scheduler = getattr(import_diffusers(), SAMPLERS[sampler])(**options)
    scheduler.set_timesteps(steps, device=device)
    return scheduler


def guided(
    unet: nn.Module, latents: Tensor, timestep: Tensor, labels: Tensor, guidance: float, rescale: float
) -> Tensor:
    """What the model predicts for noisy latents, with guidance: float32 (B, C, h, w)."""
    no_label = torch.full_like(labels, unet.config.num_class_embeds - 1)
    if guidance in (0.0, 1.0):
        return unet(latents, timestep, class_labels=labels if guidance else no_label).sample.float()
    both = unet(latents.repeat(2, 1, 1, 1), timestep, class_labels=torch.cat((labels, no_label))).sample.float()
    with_label, without = both.chunk(2)
    found = without + guidance * (with_label - without)
    if rescale:
        deviations = (each.std((1, 2, 3), keepdim=True) for each in (with_label, found))
        wanted, own = deviations
        found = found * (1 + rescale * (wanted / own - 1))
    return found


def noise_of(seed: int, label: int, number: int, shape: Sequence[int]) -> Tensor:
    """The noise that a sample begins as, float32 (C, h, w): the same in any batch, and however many are made."""
    return torch.from_numpy(np.random.default_rng([seed, label, number]).standard_normal(shape, np.float32))
