"""Layers between a backbone's features and the logits, which torch does not have.

Shapes: B clips, T frames, C channels, K classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

POOL_HIDDEN = 128  # units with which attention pooling weighs a frame
FIRST_SCALE = 10.0  # of the cosines; learned from there


class TemporalTransformer(nn.Module):
    """A transformer encoder over the frames of a clip: (B, T, D) to (B, T, C).

    Vaswani et al., "Attention is all you need" (2017), with norms before the layers and sinusoidal positions, which
    take any number of frames.
    """

    def __init__(self, features: int, channels: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Linear(features, channels)
        layer = nn.TransformerEncoderLayer(
            channels, heads, 4 * channels, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(channels), enable_nested_tensor=False)

    def forward(self, features: Tensor) -> Tensor:
        tokens = self.project(features)
        return self.encoder(tokens + sinusoidal_positions(tokens))


def sinusoidal_positions(tokens: Tensor) -> Tensor:
    """The positions (T, C) of tokens (B, T, C), C even: sines of falling frequencies, then cosines."""
    _, steps, channels = tokens.shape
    half = torch.arange(channels // 2, device=tokens.device, dtype=tokens.dtype)
    rates = torch.exp(half * (-math.log(10_000) / (channels // 2)))
    angles = torch.arange(steps, device=tokens.device, dtype=tokens.dtype)[:, None] * rates
    return torch.cat((angles.sin(), angles.cos()), dim=1)


class AttentionPool(nn.Module):
    """A mean over frames by learned weights: (B, T, C) to (B, C).

    Ilse et al., "Attention-based deep multiple instance learning" (2018), equations 7 and 8.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(nn.Linear(channels, POOL_HIDDEN), nn.Tanh(), nn.Linear(POOL_HIDDEN, 1, bias=False))

    def forward(self, features: Tensor) -> Tensor:
        return (self.weigh(features).softmax(1) * features).sum(1)


class CosineClassifier(nn.Module):
    """Logits that are cosines between L2-normalised features and weights, times a learned scale: (B, C) to (B, K).

    Gidaris and Komodakis, "Dynamic few-shot visual learning without forgetting" (2018), section 3.2.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, channels))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # as nn.Linear
        self.scale = nn.Parameter(torch.tensor(FIRST_SCALE))

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * functional.linear(functional.normalize(features), functional.normalize(self.weight))
