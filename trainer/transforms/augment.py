"""Augmentation of batched clips on the device, with one draw per clip, the same for all its frames.

Draws depend on (seed, epoch, the clip's number, how often it came before in the epoch) alone, never on the batch,
rank or worker it came with. torchvision's transforms take one strength for a whole batch, hence functions of our own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from trainer.config.settings import AugmentSettings
from trainer.transforms.colour import batch_colour
from trainer.transforms.degrade import batch_blur, batch_downscale, batch_frame_dropout, batch_jpeg, batch_noise
from trainer.transforms.geometry import batch_cutout, batch_flip, batch_warp
from trainer.transforms.self_blend import batch_self_blend

# The random numbers of a clip by what they decide. New ones stand at the end: then the others stay what they were.
DRAWS = (
    "flip", "crop", "crop_x", "crop_y", "brightness", "contrast", "saturation", "blur", "noise", "jpeg", "own",
    "colour", "grey", "rotate", "shift_x", "shift_y", "downscale", "cutout", "cutout_x", "cutout_y", "self_blend",
    "own_blend",
)  # fmt: skip


def draw(seed: int, epoch: int, seeds: np.ndarray) -> np.ndarray:
    """float32 (B, DRAWS), uniform in [0, 1): one row per clip.

    seeds: int64 (B, 2) of a Batch, or (B,) where no clip repeats.
    """
    rows = [np.random.default_rng([seed, epoch, *np.atleast_1d(own)]).random(len(DRAWS), np.float32) for own in seeds]
    return np.stack(rows)


def is_self_blended(draws: np.ndarray, settings: AugmentSettings) -> np.ndarray:
    """Which clips become pseudo-fakes where they are real, bool (B,); draws: as of `draw`."""
    return draws[:, DRAWS.index("self_blend")] < settings.self_blend


def augment(clips: Tensor, settings: AugmentSettings, draws: np.ndarray, blended: np.ndarray | None = None) -> Tensor:
    """Clips, float (B, T, 3, S, S) in [0, 1], each changed by its own row of `draws`, as of `draw`.

    blended: bool (B,), of the clips that become pseudo-fakes; None: of none.
    """
    batch = _Changing(clips, draws)
    if blended is not None:
        batch.change(blended, batch_self_blend, batch.own_seeds("own_blend"))
    if settings.frame_dropout:
        batch.clips = batch_frame_dropout(batch.clips, settings.frame_dropout, batch.own_seeds("own"))
    _warp(batch, settings)
    if settings.flip:
        batch.clips = batch_flip(batch.clips, batch.drawn["flip"] < settings.flip)
    _colour(batch, settings)
    _degrade(batch, settings)
    if settings.cutout:
        is_hit, share = batch.strength("cutout", settings.cutout_p)
        batch.change(is_hit, batch_cutout, settings.cutout * share, batch.drawn["cutout_x"], batch.drawn["cutout_y"])
    return batch.clips


class _Changing:
    """Clips under change, with their random numbers."""

    def __init__(self, clips: Tensor, draws: np.ndarray) -> None:
        self.clips = clips
        self.on_host = dict(zip(DRAWS, draws.T, strict=True))
        on_device = torch.from_numpy(draws).to(clips.device, non_blocking=True)
        self.drawn = dict(zip(DRAWS, on_device.unbind(1), strict=True))  # (B,) each

    def own_seeds(self, name: str) -> Tensor:
        """int32 (B,), for what takes more than a number per clip."""
        return (self.drawn[name] * 2**24).int()

    def strength(self, name: str, probability: float) -> tuple[np.ndarray, Tensor]:
        """Which clips are hit, bool (B,), and how hard: a share of the largest strength, uniform in [0, 1) for those.

        One number says both. The first is known to the CPU, which need not wait for the device.
        """
        return self.on_host[name] < probability, self.drawn[name] / max(probability, 1e-9)

    def change(self, is_hit: np.ndarray, change: Callable[..., Tensor], *values: Tensor) -> None:
        """Apply `change(clips, *values)` to those that are hit; values: (B,) each."""
        if is_hit.all():
            self.clips = change(self.clips, *values)
        elif is_hit.any():
            rows = torch.from_numpy(np.flatnonzero(is_hit)).to(self.clips.device, non_blocking=True)
            changed = change(self.clips[rows], *(value[rows] for value in values))
            self.clips = self.clips.index_copy(0, rows, changed)


def _warp(batch: _Changing, settings: AugmentSettings) -> None:
    """Crop, rotation and shift, by one resampling."""
    crops, crop = batch.strength("crop", settings.crop_p if settings.crop < 1 else 0)
    rotates, turn = batch.strength("rotate", settings.rotate_p if settings.rotate else 0)
    shifts, shift = batch.strength("shift_x", settings.shift_p if settings.shift else 0)
    crop, turn = crop.clamp(max=1), torch.where(turn < 1, 2 * turn - 1, 0)  # those that are not hit: the whole frame
    side = settings.crop + (1 - settings.crop) * crop
    x, y = ((2 * batch.drawn[name] - 1) * (1 - side) for name in ("crop_x", "crop_y"))
    for centre, moved in ((x, shift), (y, batch.drawn["shift_y"])):
        centre += torch.where(shift < 1, 2 * settings.shift * (2 * moved - 1), 0)
    batch.change(crops | rotates | shifts, batch_warp, side, settings.rotate * turn, x, y)


def _colour(batch: _Changing, settings: AugmentSettings) -> None:
    """Brightness, contrast and saturation, of which grey clips have none."""
    names = ("brightness", "contrast", "saturation")
    strengths = {name: getattr(settings, name) for name in names}
    is_coloured, share = batch.strength("colour", settings.colour_p if any(strengths.values()) else 0)
    factors = [torch.where(share < 1, 1 + strengths[name] * (2 * batch.drawn[name] - 1), 1) for name in names]
    factors[2] = torch.where(batch.drawn["grey"] < settings.grey, 0, factors[2])
    batch.change(is_coloured | (batch.on_host["grey"] < settings.grey), batch_colour, *factors)


def _degrade(batch: _Changing, settings: AugmentSettings) -> None:
    """What happens to a video on its way, in that order: fewer pixels, blur, a sensor's noise, compression."""
    if settings.downscale > 1:
        is_hit, share = batch.strength("downscale", settings.downscale_p)
        batch.change(is_hit, batch_downscale, 1 + (settings.downscale - 1) * share)
    if settings.blur:
        is_hit, share = batch.strength("blur", settings.blur_p)
        batch.change(is_hit, batch_blur, settings.blur * share)
    if settings.noise:
        is_hit, share = batch.strength("noise", settings.noise_p)
        batch.change(is_hit, batch_noise, settings.noise * share, ~batch.own_seeds("own"))
    if settings.jpeg:
        is_hit, share = batch.strength("jpeg", settings.jpeg_p)
        batch.change(is_hit, batch_jpeg, settings.jpeg + (100 - settings.jpeg) * share)
