"""Degradations that bad cameras, links and encoders cause: blur, few pixels, noise, JPEG's losses, repeated frames.

All on batched device tensors, with a draw per clip, and without a loop over clips.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from trainer.transforms.device_constants import constant

BLOCK = 8  # pixels, of JPEG
# ITU-T T.81, tables K.1 and K.2
LUMA_TABLE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
CHROMA_TABLE = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99, *(99,) * 32,
)  # fmt: skip
TO_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))  # JFIF 1.02
TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))  # JFIF 1.02


def batch_frame_dropout(clips: Tensor, share: float, seeds: Tensor) -> Tensor:
    """Frames of (B, T, 3, S, S) chosen by chance repeat the last one that was not; the first always stays."""
    batch, frames = clips.shape[:2]
    is_kept = hashed_uniform(seeds, frames) >= share  # (B, T)
    places = torch.arange(frames, device=clips.device) * is_kept  # 0 where dropped: the first stands in for itself
    rows = torch.arange(batch, device=clips.device)[:, None]
    return clips[rows, places.cummax(1).values]


def batch_blur(clips: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of float (B, T, 3, S, S) with a standard deviation, pixels, per clip (B,).

    As two products with (S, S) matrices: exact for any deviation; at the edges the weights within the frame count.
    """
    place = torch.arange(clips.shape[-1], device=clips.device, dtype=torch.float32)
    distance = place[:, None] - place
    weights = torch.exp(-0.5 * (distance / sigma.clamp(min=1e-3).view(-1, 1, 1)) ** 2)  # (B, S, S)
    weights = (weights / weights.sum(2, keepdim=True)).view(-1, 1, 1, *distance.shape)
    return weights @ clips @ weights.mT


def batch_downscale(clips: Tensor, times: Tensor) -> Tensor:
    """Float (B, T, 3, S, S) made so many times smaller per clip (B,), antialiased, and as large as before again.

    Both by triangle filters, as Pillow and torch's interpolate do it, in one product with (S, S) matrices.
    """
    size = clips.shape[-1]
    place = torch.arange(size, device=clips.device, dtype=torch.float32)
    small = (size / times).floor().clamp(1).view(-1, 1, 1)  # pixels
    ratio = size / small
    distance = (place + 0.5) - (place[:, None] + 0.5) * ratio  # (B, small pixels, pixels), the first ones count
    down = (1 - distance.abs() / ratio).clamp(min=0) * (place[:, None] < small)
    down = down / down.sum(2, keepdim=True).clamp(min=1e-6)
    target = torch.minimum(((place[:, None] + 0.5) / ratio - 0.5).clamp(min=0), small - 1)  # (B, pixels, 1)
    up = (1 - (target - place).abs()).clamp(min=0)  # (B, pixels, small pixels)
    weights = (up @ down).view(-1, 1, 1, size, size)
    return weights @ clips @ weights.mT


def batch_noise(clips: Tensor, std: Tensor, seeds: Tensor) -> Tensor:
    """Gaussian noise of a strength per clip (B,), independent between pixels and frames as a sensor's is."""
    uniform = hashed_uniform(seeds, clips[0].numel()).view(clips.shape)
    normal = math.sqrt(2) * torch.erfinv(2 * uniform - 1)
    return (clips + std.view(-1, 1, 1, 1, 1) * normal).clamp_(0, 1)


def batch_jpeg(clips: Tensor, quality: Tensor) -> Tensor:
    """What JPEG, 4:4:4, of a quality per clip (B,), 1 to 100, leaves of float (B, T, 3, S, S) in [0, 1].

    The scaling of the tables is libjpeg's.
    """
    size, device = clips.shape[-1], clips.device
    pixels = torch.einsum("kc,btchw->btkhw", constant(TO_YCBCR, device), clips * 255)
    pixels[:, :, 0] -= 128
    missing = -size % BLOCK
    padded = functional.pad(pixels.flatten(0, 1), (0, missing, 0, missing), mode="replicate")
    blocks = padded.unflatten(0, clips.shape[:2]).unflatten(4, (-1, BLOCK)).unflatten(3, (-1, BLOCK))
    blocks = blocks.transpose(4, 5)  # (B, T, 3, S/8, S/8, 8, 8)
    cosines = _cosines(device)
    steps = _steps(quality.to(device)).view(-1, 1, 3, 1, 1, BLOCK, BLOCK)
    blocks = torch.round(cosines @ blocks @ cosines.T / steps) * steps
    pixels = (cosines.T @ blocks @ cosines).transpose(4, 5).flatten(5, 6).flatten(3, 4)[..., :size, :size]
    pixels[:, :, 0] += 128
    return (torch.einsum("ck,btkhw->btchw", constant(TO_RGB, device), pixels) / 255).clamp_(0, 1)


def _cosines(device: torch.device) -> Tensor:
    """The orthonormal cosine transform of 8 values, (8, 8)."""
    place = torch.arange(BLOCK, device=device, dtype=torch.float32)
    matrix = torch.cos(math.pi / BLOCK * place[:, None] * (place + 0.5)) * math.sqrt(2 / BLOCK)
    matrix[0] /= math.sqrt(2)
    return matrix


def _steps(quality: Tensor) -> Tensor:
    """Quantisation steps, (B, 3, 8, 8)."""
    tables = constant((LUMA_TABLE, CHROMA_TABLE, CHROMA_TABLE), quality.device).float()
    quality = quality.view(-1, 1, 1).round().clamp(1, 100)
    percent = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality)
    return ((tables * percent + 50) / 100).floor().clamp(1, 255).view(-1, 3, BLOCK, BLOCK)


def hashed_uniform(seeds: Tensor, count: int) -> Tensor:
    """float32 (B, count), uniform in (0, 1): a function of the clip's seed, int32 (B,), and the place alone.

    Random generators know one seed for a whole batch; a hash gives each clip its own numbers, on any device.
    """
    places = _mix(torch.arange(count, device=seeds.device, dtype=torch.int32))
    bits = _mix(places ^ seeds.view(-1, 1)) >> 9 & 0x7FFFFF
    return (bits + 0.5) / 2**23


def _mix(x: Tensor) -> Tensor:
    """A hash of int32, in which every bit depends on every bit: lowbias32 (C. Wellons, "hash-prospector", 2018)."""
    x = (x ^ (x >> 16 & 0xFFFF)) * 0x7FEB352D
    x = (x ^ (x >> 15 & 0x1FFFF)) * (0x846CA68B - 2**32)
    return x ^ (x >> 16 & 0xFFFF)
