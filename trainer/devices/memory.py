"""A model in the memory of a device, and a retry in smaller parts for work that has run out of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from shardify.machine import is_out_of_memory

logger = logging.getLogger(__name__)

T = TypeVar("T")


def in_parts(run: Callable[[int], T], parts: int, most: int) -> T:
    """The result of run(parts); where memory runs out, of run with twice as many parts, up to `most`.

    Raises what `run` raises there.
    """
    while True:
        try:
            return run(parts)
        except RuntimeError as error:
            if not is_out_of_memory(error) or parts >= most:
                raise
        parts = min(2 * parts, most)  # here, where the error no longer holds the tensors
        logger.warning(f"out of memory; again, in {parts} parts")


def move_model(model: nn.Module, device: torch.device) -> None:
    """Move a model to a device, the kernels over pictures channels last; those over clips have no such order."""
    model.to(device)
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
