"""Changes of where pixels of a clip stand: mirror, crop, rotation, shift, cutout; each with a draw per clip."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def batch_flip(clips: Tensor, flip: Tensor) -> Tensor:
    """Mirror the clips, (B, T, 3, S, S), where `flip`, bool (B,), is set."""
    return torch.where(flip.view(-1, 1, 1, 1, 1), clips.flip(-1), clips)


def batch_warp(clips: Tensor, side: Tensor, degrees: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Cut a square out of every clip, (B, T, 3, S, S), and resize it to S; all of (B,), edges repeat beyond the frame.

    side: of the square, as a share of the frame's; degrees: that the picture is turned by; x, y: the square's centre,
    from -1 to 1 over the frame. All at once, since every resampling blurs.
    """
    batch, frames = clips.shape[:2]
    turn = degrees.deg2rad()
    cosine, sine = side * turn.cos(), side * turn.sin()
    theta = torch.stack((cosine, -sine, x, sine, cosine, y), 1).view(batch, 2, 3)
    flat = clips.flatten(0, 1)  # (B·T, 3, S, S)
    grid = functional.affine_grid(theta.repeat_interleave(frames, 0), list(flat.shape), align_corners=False)
    return functional.grid_sample(flat, grid, padding_mode="border", align_corners=False).unflatten(0, (batch, frames))


def batch_cutout(clips: Tensor, side: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Blacken a square of every clip (DeVries and Taylor, "Cutout", 2017, arXiv 1708.04552).

    side: its side as a share of the frame's, (B,); x, y: its centre, from 0 to 1 over the frame, (B,).
    """
    place = (torch.arange(clips.shape[-1], device=clips.device) + 0.5) / clips.shape[-1]
    rows, columns = ((place - centre[:, None]).abs() < side[:, None] / 2 for centre in (y, x))  # (B, S)
    return clips.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None, None], 0.0)
