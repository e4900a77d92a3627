"""The model resnet_lstm: a backbone per frame, then bidirectional LSTM and self-attention, or a transformer.

Shapes: B clips, T frames, S pixels, D features of a frame, C channels over time, K classes.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from trainer.config.settings import ModelSettings
from trainer.errors import SettingsError
from trainer.models.backbones import make_backbone
from trainer.models.layers import AttentionPool, CosineClassifier, TemporalTransformer
from trainer.models.precision import without_autocast
from trainer.models.weights import NO_FILE, load_parts


class ResNetLSTM(nn.Module):
    """A model that maps normalised clips, float (B, T, 3, S, S), to logits (B, K).

    Without differences, LSTM and attention it is a model of single frames whose logits are averaged.
    """

    def __init__(self, num_classes: int, settings: ModelSettings, size: int = 224) -> None:
        super().__init__()
        self.backbone, features, self.weights_origin = make_backbone(
            settings.backbone, settings.weights, size, settings.drop_path
        )
        self.differences = settings.differences
        if settings.differences:
            features *= 2
        channels, heads = 2 * settings.lstm_hidden or features, settings.attention_heads
        if heads and channels % heads:
            raise SettingsError(f"model.attention_heads is {heads}; it must divide the {channels} channels")
        self.lstm = self.transformer = self.attention = None
        if settings.temporal == "transformer":
            self.transformer = TemporalTransformer(features, channels, settings.lstm_layers, heads, settings.dropout)
        else:
            if settings.lstm_hidden:
                self.lstm = nn.LSTM(
                    features, settings.lstm_hidden, settings.lstm_layers, batch_first=True, bidirectional=True
                )
            if heads:
                self.norm = nn.LayerNorm(channels)
                self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.pool = AttentionPool(channels) if settings.pool == "attention" else None
        self.pools_by_max = settings.pool == "max"
        classifier = CosineClassifier if settings.head == "cosine" else nn.Linear
        self.head = nn.Sequential(nn.Dropout(settings.dropout), classifier(channels, num_classes))
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
        if self.transformer is not None:
            features = self.transformer(features)  # (B, T, C)
        if self.lstm is not None:
            features, _ = self.lstm(features)  # (B, T, C)
        if self.attention is not None:
            normed = self.norm(features)
            features = features + self.attention(normed, normed, normed, need_weights=False)[0]
        return self.head(self._pooled(features))  # (B, K)

    def _pooled(self, features: Tensor) -> Tensor:
        """One vector per clip, (B, C), of (B, T, C)."""
        if self.pool is not None:
            return self.pool(features)
        return features.amax(1) if self.pools_by_max else features.mean(1)


def with_differences(features: Tensor) -> Tensor:
    """Features (B, T, D) with their distances from the frame before, 0 for the first: (B, T, 2D)."""
    steps = (features[:, 1:] - features[:, :-1]).abs()
    return torch.cat((features, nn.functional.pad(steps, (0, 0, 1, 0))), dim=2)
