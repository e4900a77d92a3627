"""Small training runs for the tests, and models that see to it that something happens."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from unittest.mock import patch

import torch
from torch import nn

from trainer import metrics
from trainer.distributed import Group
from trainer.settings import load_settings
from trainer.train import train

SMALL = (
    "epochs=2", "batch_size=8", "model.backbone=tiny", "model.weights=none", "model.lstm_hidden=8",
    "model.attention_heads=2", "optimizer.lr=3e-3",
)  # fmt: skip
CPU = torch.device("cpu")
torch.set_num_threads(1)  # threads that wait for each other on busy cores take longer than one alone


def run_small(shards: Path, out: Path, *overrides: str, resume: bool = False) -> dict:
    """Two epochs of a tiny model in this process; experiment_results.json's content."""
    with patch.object(metrics, "RESAMPLES", 10):  # 1000 take seconds
        return train(load_settings(None, (*SMALL, *overrides)), shards, out, Group(0, 1, CPU), resume)


def best_weights(out: Path) -> dict[str, torch.Tensor]:
    return torch.load(out / "models" / "best_model.pth", weights_only=True)["model"]


class MeanColours(nn.Module):
    """A linear model of the frames' mean colours; with no batch norm, every split of a batch gives the same."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, clips):
        return self.head(clips.mean((1, 3, 4)))


class Stopping(nn.Module):
    """Asks this process to end, as a session manager would, in its `stop_at`-th training step (from 0)."""

    stop_at = -1

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(8, num_classes)

    def forward(self, clips):
        if self.training:
            if Stopping.stop_at == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            Stopping.stop_at -= 1
        features = self.body(clips.flatten(0, 1)).mean((2, 3)).unflatten(0, clips.shape[:2])
        return self.head(features.mean(1))
