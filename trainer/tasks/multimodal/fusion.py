"""The fusion of modalities through bottleneck tokens.

After Nagrani et al., "Attention bottlenecks for multimodal fusion" (2021, arXiv 2107.00135) and the code of scenic,
projects/mbt. Shapes: B clips, n moments of a modality, D features of its tokens, W the width of fusion.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trainer.tasks.multimodal.settings import FusionSettings


class Block(nn.Module):
    """A transformer's layer, its norms before attention and perceptron: tokens (B, n, W) to the same."""

    def __init__(self, settings: FusionSettings) -> None:
        super().__init__()
        width, dropout = settings.width, settings.dropout
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, settings.heads, dropout, batch_first=True)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout),
            nn.Linear(4 * width, width), nn.Dropout(dropout),
        )  # fmt: skip
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, kept: list[Tensor] | None = None) -> Tensor:
        """kept: takes the weights of attention, (B, n, n), the mean over its heads."""
        normed = self.norm(tokens)
        attended, weights = self.attention(normed, normed, normed, need_weights=kept is not None)
        if kept is not None:
            kept.append(weights)
        tokens = tokens + self.dropout(attended)
        return tokens + self.perceptron(tokens)


class BottleneckFusion(nn.Module):
    """Tokens of several modalities to one vector, float (B, W).

    In every layer a modality attends to its own tokens and to the bottlenecks, which then become the mean of what the
    modalities that are present have made of them. The vector is the mean of their class tokens, 0 where none is
    present. What is absent is chosen away, so that it has no part in any value, were it NaN.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, int]], settings: FusionSettings) -> None:
        """shapes: (moments, features) of each modality, by its name."""
        super().__init__()
        width = settings.width
        self.inputs = nn.ModuleDict({name: nn.Linear(features, width) for name, (_, features) in shapes.items()})
        self.positions = nn.ParameterDict({name: _drawn(moments, width) for name, (moments, _) in shapes.items()})
        self.classes = nn.ParameterDict({name: _drawn(1, width) for name in shapes})
        self.bottlenecks = _drawn(settings.bottlenecks, width)
        self.layers = nn.ModuleList(
            nn.ModuleDict({name: Block(settings) for name in shapes}) for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(width)

    def no_weight_decay(self) -> set[str]:
        """Names of the tokens that are learned as they are, and of the positions, as of timm's models."""
        parts = ("positions.", "classes.", "bottlenecks")
        return {name for name, _ in self.named_parameters() if name.startswith(parts)}

    def forward(self, tokens: Mapping[str, Tensor], present: Tensor, kept: dict | None = None) -> Tensor:
        """tokens: (B, n, D) of each modality; present: bool (B, modalities), in their order.

        kept: takes lists of the weights of attention in each layer, by modality; see `Block`.
        """
        batch, own = present.shape[0], {}  # len() would fix it in an exported program
        for name, values in tokens.items():
            begin = self.classes[name].expand(batch, -1, -1)
            own[name] = torch.cat((begin, self.inputs[name](values) + self.positions[name]), dim=1)
        shared = self.bottlenecks.expand(batch, -1, -1)
        for layer in self.layers:
            made = []
            for name, values in own.items():
                weights = None if kept is None else kept.setdefault(name, [])
                values = layer[name](torch.cat((values, shared), dim=1), weights)
                own[name], bottlenecks = values.split((own[name].shape[1], shared.shape[1]), dim=1)
                made.append(bottlenecks)
            shared = mean_of_present(made, present)
        return mean_of_present([self.norm(values[:, 0]) for values in own.values()], present)


def mean_of_present(values: list[Tensor], present: Tensor) -> Tensor:
    """The mean of tensors (B, …), one of each modality, over those present, bool (B, modalities); 0 for none."""
    shape = (-1, *[1] * (values[0].ndim - 1))
    zero = torch.zeros((), dtype=values[0].dtype, device=values[0].device)
    chosen = [torch.where(own.view(shape), each, zero) for each, own in zip(values, present.unbind(1), strict=True)]
    return torch.stack(chosen).sum(0) / present.sum(1).clamp(min=1).view(shape)


def _drawn(count: int, width: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(1, count, width), std=0.02))
