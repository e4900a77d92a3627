"""The schedule of the noise, and how much each timestep weighs in the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainer.models.autoencoders.load import import_diffusers

if TYPE_CHECKING:
    from trainer.tasks.diffusion.settings import DiffusionSettings

BETAS = (0.0001, 0.02)  # of the linear schedule, for 1000 timesteps (Ho et al., arXiv 2006.11239)
SCHEDULES = {"cosine": "squaredcos_cap_v2", "linear": "linear"}  # as diffusers calls them
PREDICTIONS = {"v": "v_prediction", "noise": "epsilon"}


def scheduler_options(settings: DiffusionSettings) -> dict:
    """What the schedulers of diffusers are made with, those of training and of sampling alike."""
    # fewer timesteps add more noise each, so that the last one is noise alone: sampling starts there
    start, end = (min(beta * 1000 / settings.timesteps, 0.999) for beta in BETAS)
    return {
        "beta_start": start,
        "beta_end": end,
        "num_train_timesteps": settings.timesteps,
        "beta_schedule": SCHEDULES[settings.schedule],
        "prediction_type": PREDICTIONS[settings.predict],
    }


def signal_shares(settings: DiffusionSettings) -> Tensor:
    """The share of a noisy latent's variance that is signal, by timestep: float64 (timesteps,), falling."""
    betas = import_diffusers().DDPMScheduler(**scheduler_options(settings)).betas.double()
    return (1 - betas).cumprod(0)


def loss_weights(settings: DiffusionSettings) -> Tensor:
    """The weight of each timestep in the loss, float64 (timesteps,).

    By the signal-to-noise ratio, cut off at gamma (Hang et al., "Efficient diffusion training via min-SNR weighting
    strategy", arXiv 2303.09556): min(SNR, gamma) / SNR where noise is predicted, min(SNR, gamma) / (SNR + 1) for v;
    with gamma 0 every timestep weighs 1.
    """
    signal = signal_shares(settings)
    if not settings.min_snr_gamma:
        return torch.ones_like(signal)
    ratio = signal / (1 - signal)
    return ratio.clamp(max=settings.min_snr_gamma) / (ratio + (settings.predict == "v"))
