"""Constant tensors on the device, made there once: a copy to a GPU makes the CPU wait for it."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


def constant(values: tuple, device: torch.device) -> Tensor:
    """A tensor of (nested) tuples of numbers, of torch's type for them; not to be changed."""
    if torch.compiler.is_compiling():  # or exporting: then it is no real tensor
        return torch.tensor(values, device=device)
    return _made(values, device)


@functools.cache
def _made(values: tuple, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # training may use what evaluation has made
        return torch.tensor(values, device=device)
