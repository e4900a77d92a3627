"""Numbers that calculations need on the device: made there once, for a copy to a GPU makes the CPU wait for it."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


@functools.cache
def constant(values: tuple, device: torch.device) -> Tensor:
    """A tensor of (nested) tuples of numbers, of torch's type for them; not to be changed."""
    with torch.inference_mode(False):  # training may use what evaluation has made
        return torch.tensor(values, device=device)
