"""Augmentation of batched clips on the device, with one draw per clip, the same for all its frames.

Draws depend on (seed, epoch, the clip's number, how often it came before in the epoch) alone, never on the batch,
rank or worker it came with.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from trainer.config.settings import AugmentSettings
from trainer.transforms.degrade import batch_blur, batch_frame_dropout, batch_jpeg, batch_noise
from trainer.transforms.device_constants import constant

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
DRAWS = 11  # random numbers per clip


def augment(clips: Tensor, settings: AugmentSettings, seed: int, epoch: int, seeds: np.ndarray) -> Tensor:
    """Clips, float (B, T, 3, S, S) in [0, 1], each changed by its own draw; seeds: int64 (B, 2) of a Batch."""
    draws = torch.from_numpy(draw(seed, epoch, seeds)).to(clips.device, non_blocking=True)  # (B, DRAWS) in [0, 1)
    flip, scale, x, y, *colour, blur, noise, jpeg, own = draws.unbind(1)
    own_seeds = (own * 2**24).int()  # for what takes more than a number per clip
    if settings.frame_dropout:
        clips = batch_frame_dropout(clips, settings.frame_dropout, own_seeds)
    if settings.crop < 1:
        clips = batch_crop(clips, scale, x, y, smallest=settings.crop)
    if settings.flip:
        clips = batch_flip(clips, flip < settings.flip)
    strengths = (settings.brightness, settings.contrast, settings.saturation)
    if any(strengths):
        factors = [1 + strength * (2 * drawn - 1) for strength, drawn in zip(strengths, colour, strict=True)]
        clips = batch_colour(clips, *factors)
    if settings.blur:
        clips = batch_blur(clips, settings.blur * blur)
    if settings.noise:
        clips = batch_noise(clips, settings.noise * noise, ~own_seeds)
    if settings.jpeg:
        clips = batch_jpeg(clips, settings.jpeg + (100 - settings.jpeg) * jpeg)
    return clips


def draw(seed: int, epoch: int, seeds: np.ndarray) -> np.ndarray:
    """float32 (B, DRAWS), uniform in [0, 1): one row per clip; seeds: int64 (B, 2), or (B,) where no clip repeats."""
    rows = [np.random.default_rng([seed, epoch, *np.atleast_1d(own)]).random(DRAWS, np.float32) for own in seeds]
    return np.stack(rows)


def batch_flip(clips: Tensor, flip: Tensor) -> Tensor:
    """Mirror the clips where `flip`, bool (B,), is set."""
    return torch.where(flip.view(-1, 1, 1, 1, 1), clips.flip(-1), clips)


def batch_crop(clips: Tensor, scale: Tensor, x: Tensor, y: Tensor, smallest: float) -> Tensor:
    """Cut a square out of every clip and resize it back; draws in [0, 1), sides from `smallest` to 1."""
    batch, frames = clips.shape[:2]
    side = smallest + (1 - smallest) * scale
    theta = torch.zeros(batch, 2, 3, device=clips.device)
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, 0, 2] = (2 * x - 1) * (1 - side)  # the square's centre, in [-1, 1] over the frame
    theta[:, 1, 2] = (2 * y - 1) * (1 - side)
    flat = clips.flatten(0, 1)  # (B·T, 3, S, S)
    grid = functional.affine_grid(theta.repeat_interleave(frames, 0), list(flat.shape), align_corners=False)
    return functional.grid_sample(flat, grid, padding_mode="border", align_corners=False).unflatten(0, (batch, frames))


def batch_colour(clips: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Multiply brightness, contrast around the clip's mean and saturation around each pixel's luma; factors (B,)."""
    brightness, contrast, saturation = (f.view(-1, 1, 1, 1, 1) for f in (brightness, contrast, saturation))
    clips = clips * brightness
    mean = clips.mean((1, 2, 3, 4), keepdim=True)
    clips = mean + contrast * (clips - mean)
    luma = (clips * constant(LUMA, clips.device).view(3, 1, 1)).sum(2, keepdim=True)
    return (luma + saturation * (clips - luma)).clamp_(0, 1)
