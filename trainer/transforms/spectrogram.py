"""Augmentation of batched log mel spectrograms on the device, with one draw per clip.

Frequency and time masks are those of Park et al., "SpecAugment" (2019, arXiv 1904.08779), one of each.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from shardify.format.members.mel import FLOOR
from trainer.config.settings import AugmentSettings

SOUND = 0x6D656C  # begins the seeds of sound's draws, so that they are none of the frames'
DRAWS = 7  # random numbers per clip
DECIBEL = math.log(10) / 10  # in the unit of the spectrograms, the natural logarithm of power


def draw(seed: int, epoch: int, seeds: np.ndarray) -> np.ndarray:
    """float32 (B, DRAWS), uniform in [0, 1): one row per clip; seeds: int64 (B, 2) of a Batch."""
    return np.stack([np.random.default_rng([SOUND, seed, epoch, *own]).random(DRAWS, np.float32) for own in seeds])


def augment_mel(mel: Tensor, settings: AugmentSettings, draws: Tensor) -> Tensor:
    """Spectrograms, float (B, 1, M, F), each changed by its own draws in [0, 1), (B, 5): louder or softer, masked.

    What holds no sound stays at FLOOR.
    """
    height, top, width, left, gain = draws.unbind(1)
    if settings.gain:
        changed = (mel + settings.gain * DECIBEL * (2 * gain - 1).view(-1, 1, 1, 1)).clamp(min=FLOOR)
        mel = torch.where(mel > FLOOR, changed, mel)
    if settings.frequency_mask or settings.time_mask:
        bands = _span(mel.shape[2], settings.frequency_mask * height, top).unsqueeze(2)
        columns = _span(mel.shape[3], settings.time_mask * width, left).unsqueeze(1)
        mel = torch.where((bands | columns).unsqueeze(1), mel.mean((1, 2, 3), keepdim=True), mel)
    return mel


def _span(length: int, share: Tensor, place: Tensor) -> Tensor:
    """bool (B, length): a stretch of this share of it, at a place between its ends, 0 to 1; both (B,)."""
    size = (share * length).round()
    start = (place * (length - size + 1)).floor()
    at = torch.arange(length, device=share.device)
    return (at >= start[:, None]) & (at < (start + size)[:, None])
