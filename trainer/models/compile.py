"""The compiled backbone, by torch.compile, where that works on this machine."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import nn

from shardify.machine import is_out_of_memory
from trainer.models.gradient_checkpointing import statistics_kept
from trainer.models.stages import backbone_of


def compile_backbone(model: nn.Module, frames: torch.Tensor, autocast: AbstractContextManager) -> str | None:
    """Compile in place, and try it with `frames`, float (N, 3, S, S); None, or why it stays as it was.

    Leaves weights, gradients, batch norm's statistics and the random state as they were.
    Raises SettingsError where the model has no backbone.
    """
    backbone = backbone_of(model, "model.compile")
    devices = [frames.device] if frames.device.type == "cuda" else []
    backbone.compile()
    try:
        with torch.random.fork_rng(devices), statistics_kept(backbone), autocast:
            features = backbone(frames)
            if features.requires_grad:  # not where all of it is frozen
                features.float().sum().backward()
    except Exception as error:  # Dynamo, Inductor, Triton and compilers have dozens of their own
        if is_out_of_memory(error):  # it is compiled; a step that is too large is made smaller when it comes
            return None
        backbone._compiled_call_impl = None
        return f"torch.compile does not work here ({first_line(error)}); the backbone runs as it is"
    finally:
        backbone.zero_grad(set_to_none=True)
    return None


def first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
