"""Recurrent layers in full precision, which autocast would run in float16, whatever its own type.

cuDNN's autocast wrapper casts an RNN, its gradients included, to half (ATen/cudnn/AutocastRNN.cpp) even under bfloat16,
where no scaler keeps small gradients from becoming 0; oneDNN's fails on CPUs that lack the type. No other operator has
a type of its own (ATen/autocast_mode.cpp).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Autocast switched off where it is on; nothing elsewhere, since an exported program would keep the switch."""
    is_on = torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if is_on else nullcontext()


def keep_recurrent_layers_in_float32(model: nn.Module) -> None:
    """Let the LSTM, GRU and RNN layers of any model compute in the type of their weights, also under autocast."""
    for module in model.modules():
        if isinstance(module, nn.RNNBase):
            module.forward = partial(_in_own_precision, module)


def _in_own_precision(layer: nn.RNNBase, /, *args, **kwargs):
    """The layer's forward pass, of any signature; under autocast, its floats are cast to the type of its weights."""
    forward, weight = type(layer).forward, next(layer.parameters())
    if not torch.is_autocast_enabled(weight.device.type):
        return forward(layer, *args, **kwargs)
    with without_autocast(weight.device):
        kwargs = {name: _cast_floats(value, weight.dtype) for name, value in kwargs.items()}
        return forward(layer, *_cast_floats(args, weight.dtype), **kwargs)


def _cast_floats(value: object, dtype: torch.dtype) -> object:
    if isinstance(value, PackedSequence) or (isinstance(value, Tensor) and value.is_floating_point()):
        return value.to(dtype)
    if type(value) in (tuple, list):
        return type(value)(_cast_floats(part, dtype) for part in value)
    return value
