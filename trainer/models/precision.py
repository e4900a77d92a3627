"""Full precision for what autocast would run in float16, whatever its own type: recurrent layers.

cuDNN's autocast wrapper casts an RNN, its gradients included, to half (ATen/cudnn/AutocastRNN.cpp) even under bfloat16,
where no scaler keeps small gradients from becoming 0; oneDNN's fails on CPUs that lack the type. No other operator has
a type of its own (ATen/autocast_mode.cpp).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Autocast switched off where it is on; nothing elsewhere, since an exported program would keep the switch."""
    is_on = torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if is_on else nullcontext()


def keep_recurrent_layers_in_float32(model: nn.Module) -> None:
    """Let the LSTM, GRU and RNN layers of any model compute in the type of their weights, also under autocast."""
    for module in model.modules():
        if isinstance(module, nn.RNNBase):
            module.forward = partial(_in_own_precision, module)


def _in_own_precision(layer: nn.RNNBase, inputs, hx: Tensor | tuple[Tensor, Tensor] | None = None):
    """The layer's forward pass; inputs: a tensor or a PackedSequence."""
    forward, weight = type(layer).forward, next(layer.parameters())
    if not torch.is_autocast_enabled(weight.device.type):
        return forward(layer, inputs, hx)
    with without_autocast(weight.device):
        if hx is not None:
            hx = hx.to(weight.dtype) if isinstance(hx, Tensor) else tuple(state.to(weight.dtype) for state in hx)
        return forward(layer, inputs.to(weight.dtype), hx)
