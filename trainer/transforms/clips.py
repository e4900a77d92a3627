"""Stored clips as normalised floats: the chosen frames, the chosen size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from trainer.transforms.device_constants import constant

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which pretrained backbones expect


def to_float(clips: Tensor, frames: int | None = None, size: int | None = None) -> Tensor:
    """Stored clips, uint8 (B, T, 3, S, S), as float32 (B, frames, 3, size, size) in [0, 1], channels last in memory.

    frames: evenly chosen, the middles of equal segments as in a build; size: pixels, antialiased; None: all of them.
    """
    stored = clips.shape[1]
    if frames is not None and frames != stored:
        chosen = constant(tuple((2 * i + 1) * stored // (2 * frames) for i in range(frames)), clips.device)
        clips = clips.permute(0, 1, 3, 4, 2).index_select(1, chosen).permute(0, 1, 4, 2, 3)
    clips = clips.float().div_(255)
    if size is not None and size != clips.shape[-1]:
        flat = functional.interpolate(clips.flatten(0, 1), size=(size, size), mode="bilinear", antialias=True)
        clips = flat.unflatten(0, clips.shape[:2])
    return clips


def normalise(clips: Tensor) -> Tensor:
    """Clips, float (B, T, 3, S, S) in [0, 1], with zero mean and unit deviation over ImageNet."""
    mean, std = (constant(values, clips.device).view(3, 1, 1) for values in (MEAN, STD))
    return (clips - mean) / std


def renormalisation(mean: Sequence[float], deviation: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Factor and summand, (3, 1, 1) each, by which clips normalised over ImageNet get another mean and deviation."""
    imagenet_mean, imagenet_std, mean, deviation = (
        torch.tensor(each).view(3, 1, 1) for each in (MEAN, STD, mean, deviation)
    )
    return imagenet_std / deviation, (imagenet_mean - mean) / deviation
