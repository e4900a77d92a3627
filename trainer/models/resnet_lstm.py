"""The model resnet_lstm: a ResNet per frame, then a bidirectional LSTM and self-attention over time.

Shapes: B clips, T frames, S pixels, D features of a frame, C channels over time, K classes.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from trainer.config.settings import ModelSettings
from trainer.errors import SettingsError
from trainer.models.backbones import NO_FILE, make_backbone
from trainer.models.precision import without_autocast
from trainer.models.weights import load_parts


class ResNetLSTM(nn.Module):
    """A model that maps normalised clips, float (B, T, 3, S, S), to logits (B, K).

    Without differences, LSTM and attention it is a model of single frames whose logits are averaged.
    """

    def __init__(self, num_classes: int, settings: ModelSettings, size: int = 224) -> None:
        super().__init__()
        self.backbone, channels, self.weights_origin = make_backbone(settings.backbone, settings.weights, size)
        self.differences = settings.differences
        if settings.differences:
            channels *= 2
        self.lstm = None
        if settings.lstm_hidden:
            self.lstm = nn.LSTM(
                channels, settings.lstm_hidden, settings.lstm_layers, batch_first=True, bidirectional=True
            )
            channels = 2 * settings.lstm_hidden
        self.attention = None
        if settings.attention_heads:
            if channels % settings.attention_heads:
                raise SettingsError(
                    f"model.attention_heads is {settings.attention_heads}; it must divide the {channels} channels"
                )
            self.norm = nn.LayerNorm(channels)
            self.attention = nn.MultiheadAttention(channels, settings.attention_heads, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(settings.dropout), nn.Linear(channels, num_classes))
        if settings.weights not in NO_FILE:
            self.weights_origin = load_parts(self, Path(settings.weights))

    def forward(self, clips: Tensor) -> Tensor:
        # (B·T, 3, S, S), in one layout whatever augmentation has left: another one would be compiled again
        frames = clips.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        features = self.backbone(frames).unflatten(0, clips.shape[:2])  # (B, T, D)
        # small next to the backbone, and its gradients are small numbers: bfloat16 and float16 would round them
        with without_autocast(features.device):
            return self._over_time(features.float())

    def _over_time(self, features: Tensor) -> Tensor:
        """The logits (B, K) of features of frames, (B, T, D)."""
        if self.differences:
            features = with_differences(features)  # (B, T, 2D)
        if self.lstm is not None:
            features, _ = self.lstm(features)  # (B, T, C)
        if self.attention is not None:
            normed = self.norm(features)
            features = features + self.attention(normed, normed, normed, need_weights=False)[0]
        return self.head(features.mean(1))  # (B, K)


def with_differences(features: Tensor) -> Tensor:
    """Features (B, T, D) with their distances from the frame before, 0 for the first: (B, T, 2D)."""
    steps = (features[:, 1:] - features[:, :-1]).abs()
    return torch.cat((features, nn.functional.pad(steps, (0, 0, 1, 0))), dim=2)
