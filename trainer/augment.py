"""Small functions on batched device tensors; one draw per clip, the same for all its frames.

Draws depend on (seed, epoch, the clip's number) alone, never on the batch, rank or worker it came with.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from trainer.settings import AugmentSettings

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which pretrained backbones expect
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def to_float(clips: Tensor) -> Tensor:
    """uint8 (B, T, 3, S, S) → float32 in [0, 1], channels last in memory as before."""
    return clips.float().div_(255)


def normalise(clips: Tensor) -> Tensor:
    """float (B, T, 3, S, S) in [0, 1] → zero mean and unit deviation over ImageNet."""
    mean, std = (torch.tensor(values, device=clips.device).view(3, 1, 1) for values in (MEAN, STD))
    return (clips - mean) / std


def augment(clips: Tensor, settings: AugmentSettings, seed: int, epoch: int, numbers: np.ndarray) -> Tensor:
    """float (B, T, 3, S, S) in [0, 1] → the same, each clip changed by its own draw."""
    draws = torch.from_numpy(draw(seed, epoch, numbers)).to(clips.device, non_blocking=True)  # (B, 7) in [0, 1)
    flip, *crop = draws[:, 0] < settings.flip, draws[:, 1], draws[:, 2], draws[:, 3]
    if settings.crop < 1:
        clips = batch_crop(clips, *crop, smallest=settings.crop)
    clips = batch_flip(clips, flip)
    strengths = (settings.brightness, settings.contrast, settings.saturation)
    if any(strengths):
        factors = [1 + strength * (2 * draws[:, 4 + i] - 1) for i, strength in enumerate(strengths)]
        clips = batch_colour(clips, *factors)
    return clips


def draw(seed: int, epoch: int, numbers: np.ndarray) -> np.ndarray:
    """float32 (B, 7), uniform in [0, 1): one row per clip."""
    rows = [np.random.default_rng([seed, epoch, int(number)]).random(7, np.float32) for number in numbers]
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
    luma = (clips * torch.tensor(LUMA, device=clips.device).view(3, 1, 1)).sum(2, keepdim=True)
    return (luma + saturation * (clips - luma)).clamp_(0, 1)
