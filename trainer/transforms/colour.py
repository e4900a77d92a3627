"""Changes of colour, with factors per clip."""

from __future__ import annotations

from torch import Tensor

from trainer.transforms.device_constants import constant

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def batch_colour(clips: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Multiply brightness, contrast around the clip's mean and saturation around each pixel's luma.

    clips: float (B, T, 3, S, S) in [0, 1]; factors (B,). A saturation of 0 makes a clip grey.
    """
    brightness, contrast, saturation = (f.view(-1, 1, 1, 1, 1) for f in (brightness, contrast, saturation))
    clips = clips * brightness
    mean = clips.mean((1, 2, 3, 4), keepdim=True)
    clips = mean + contrast * (clips - mean)
    luma = (clips * constant(LUMA, clips.device).view(3, 1, 1)).sum(2, keepdim=True)
    return (luma + saturation * (clips - luma)).clamp_(0, 1)
