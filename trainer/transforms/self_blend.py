"""Pseudo-fakes: a region of a real clip is blended with a changed copy of the same clip.

After Shiohara and Yamasaki, "Detecting deepfakes with self-blended images", CVPR 2022 (arXiv 2204.08376). Their mask is
the hull of a face's landmarks; ours is an ellipse of random shape in the middle of the frame, where the face stands in
clips that were cut around it with the builder's own margin (0.3). Every clip is changed by one draw, so that the
blended region keeps still from frame to frame.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainer.transforms.colour import batch_colour
from trainer.transforms.degrade import batch_blur, hashed_uniform
from trainer.transforms.device_constants import constant
from trainer.transforms.geometry import batch_warp

RATIOS = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)  # of the copy within the mask, as in the paper
RANGES = {  # of the random numbers; lengths are shares of the frame
    # the copy
    "red": (-0.08, 0.08), "green": (-0.08, 0.08), "blue": (-0.08, 0.08),  # added
    "brightness": (0.9, 1.1), "contrast": (0.9, 1.1), "saturation": (0.7, 1.3),  # factors
    "detail": (-1.0, 0.5),  # from blurred to sharpened
    "sigma": (0.5, 1.5),  # of the Gaussian that finds details, pixels
    # the region that is blended in
    "side": (0.95, 1.05), "x": (-0.06, 0.06), "y": (-0.03, 0.03),  # -1 to 1 over the frame
    "is_inside": (0.0, 1.0), "ratio": (0.0, 1.0),
    # the mask
    "mask_x": (-0.04, 0.04), "mask_y": (-0.04, 0.04), "width": (0.2, 0.32), "height": (0.25, 0.4),
    "two": (0.0, 0.12), "three": (0.0, 0.12), "phase_two": (0.0, 2 * math.pi), "phase_three": (0.0, 2 * math.pi),
    "softness": (0.02, 0.12),  # as a share of the radius
}  # fmt: skip


def batch_self_blend(clips: Tensor, seeds: Tensor) -> Tensor:
    """Pseudo-fakes of float (B, T, 3, S, S) in [0, 1]; seeds: of each clip, int32 (B,)."""
    uniform = hashed_uniform(seeds, len(RANGES)).unbind(1)
    drawn = {name: low + (high - low) * own for (name, (low, high)), own in zip(RANGES.items(), uniform, strict=True)}
    copy = _changed_copy(clips, drawn)
    is_inside = (drawn["is_inside"] < 0.5).view(-1, 1, 1, 1, 1)
    inside, outside = torch.where(is_inside, copy, clips), torch.where(is_inside, clips, copy)
    inside = batch_warp(inside, drawn["side"], torch.zeros_like(drawn["x"]), drawn["x"], drawn["y"])
    ratio = constant(RATIOS, clips.device)[(drawn["ratio"] * len(RATIOS)).long()].view(-1, 1, 1, 1, 1)
    return outside + ratio * blend_mask(drawn, clips.shape[-1]) * (inside - outside)


def blend_mask(drawn: dict[str, Tensor], size: int) -> Tensor:
    """How much of the region is blended in, float (B, 1, 1, size, size) in [0, 1], with a soft edge."""
    place = (torch.arange(size, device=drawn["mask_x"].device) + 0.5) / size - 0.5
    x = (place - drawn["mask_x"][:, None])[:, None, :] / drawn["width"].view(-1, 1, 1)
    y = (place - drawn["mask_y"][:, None])[:, :, None] / drawn["height"].view(-1, 1, 1)
    angle = torch.atan2(y, x)  # (B, S, S)
    edge = torch.ones_like(angle)
    for times, name in ((2, "two"), (3, "three")):
        edge += drawn[name].view(-1, 1, 1) * torch.cos(times * angle + drawn[f"phase_{name}"].view(-1, 1, 1))
    return torch.sigmoid((edge - torch.hypot(x, y)) / drawn["softness"].view(-1, 1, 1))[:, None, None]


def _changed_copy(clips: Tensor, drawn: dict[str, Tensor]) -> Tensor:
    """The clips with other colours and more or less detail."""
    added = torch.stack([drawn[name] for name in ("red", "green", "blue")], 1)[:, None, :, None, None]
    copy = batch_colour(clips + added, *(drawn[name] for name in ("brightness", "contrast", "saturation")))
    details = copy - batch_blur(copy, drawn["sigma"])
    return (copy + drawn["detail"].view(-1, 1, 1, 1, 1) * details).clamp_(0, 1)
