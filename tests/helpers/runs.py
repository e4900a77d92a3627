"""Small training runs for the tests, and models that see to it that something happens."""

from __future__ import annotations

import contextlib
import csv
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import torch
from torch import nn

from shardify.terminal import show_log
from trainer.config.load import load_settings
from trainer.devices.distributed import Group
from trainer.engine.checkpoint import load_newest
from trainer.evaluation import metrics, report
from trainer.models.backbones import TinyResNet
from trainer.tools.evaluate import EvaluationRequest, evaluate_run
from trainer.train import train

CPU = torch.device("cpu")
SMALL = (
    "epochs=2", "batch_size=8", "model.backbone=tiny", "model.weights=none", "model.lstm_hidden=8",
    "model.attention_heads=2", "optimizer.lr=3e-3",
)  # fmt: skip
MULTIMODAL = (
    "model.name=multimodal", "epochs=2", "batch_size=8", "model.video.encoder=tiny", "model.audio.encoder=tiny",
    "model.fusion={width: 16, heads: 2, layers: 1}", "optimizer.lr=3e-3",
)  # fmt: skip
DIFFUSION = (
    "model={name: diffusion, channels: [8, 16], timesteps: 100, sample_every_steps: 8, keep_steps: [4]}", "steps=8",
    "checkpoint_every_steps=4", "batch_size=8", "ema=0.9", "scheduler={name: constant, warmup_steps: 2}",
)  # fmt: skip
ALONE = Group(0, 1, CPU)
torch.set_num_threads(1)  # threads that wait for each other on busy cores take longer than one alone
show_log("trainer")  # as the commands do


@contextlib.contextmanager
def quick_results() -> Iterator[None]:
    """Few resamples, and empty files for pictures: they take seconds, and other tests are of them."""

    def leave_empty(make: Callable[[Path], None], path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    with patch.object(metrics, "RESAMPLES", 10), patch.object(report, "show", leave_empty):
        yield


def run_small(shards: Path, out: Path, *overrides: str, resume: bool = False, group: Group = ALONE) -> dict:
    """Two epochs of a tiny model in this process, with quick results; experiment_results.json's content."""
    is_own = any(text.startswith("model.name=") for text in overrides)  # then the model's settings are refused
    small = [text for text in SMALL if not (is_own and text.startswith("model."))]
    with quick_results():
        return train(load_settings(None, (*small, *overrides)), shards, out, group, resume)


def run_multimodal(shards: Path, out: Path, *overrides: str, resume: bool = False) -> dict:
    """The same of a tiny model of video and sound."""
    with quick_results():
        return train(load_settings(None, (*MULTIMODAL, *overrides)), shards, out, ALONE, resume)


def evaluation_of(run: Path, shards: Path, split: str = "test", **options) -> dict:
    """What evaluation.json says of one data set; options: of the request."""
    with quick_results():
        record = evaluate_run(EvaluationRequest(run=run, shards=(shards,), split=split, devices="cpu", **options))
    (found,) = record["data_sets"].values()
    return found


def best_weights(out: Path) -> dict[str, torch.Tensor]:
    return torch.load(out / "models" / "best_model.pth", weights_only=True)["model"]


TIMES = ("epoch_seconds", "clips_per_second", "data_wait")


def history(out: Path) -> list[dict[str, str]]:
    """training_history.csv without what depends on the clock."""
    with (out / "results" / "training_history.csv").open() as file:
        return [{name: value for name, value in row.items() if name not in TIMES} for row in csv.DictReader(file)]


def newest_state(out: Path) -> dict:
    return load_newest(out / "checkpoints")


def newest_weights(out: Path) -> dict[str, torch.Tensor]:
    return newest_state(out)["model"]


class MeanColours(nn.Module):
    """A linear model of the frames' mean colours; with no batch norm, every split of a batch gives the same."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, clips):
        return self.head(clips.mean((1, 3, 4)))


class Partly(nn.Module):
    """Leaves parameters out: some for clips that are dark, some always; its batch norm counts in evaluation only."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3, affine=False)
        self.head, self.bright, self.unused = (nn.Linear(3, num_classes) for _ in range(3))

    def forward(self, clips):
        colours = clips.mean((1, 3, 4))
        normed = self.norm(colours.detach())
        logits = self.head(colours if self.training else normed)
        is_bright = colours.mean(1) > 0
        return logits + self.bright(colours) * is_bright[:, None] if is_bright.any() else logits


class Worsening(MeanColours):
    """Evaluates badly once `is_bad`, however it was trained."""

    is_bad = False

    def forward(self, clips):
        outputs = super().forward(clips)
        return -9 * outputs if Worsening.is_bad and not self.training else outputs


class Stopping(nn.Module):
    """Asks this process to end, as a session manager would, in its `stop_at`-th training step (from 0).

    stop_scoring: or in the next pass of evaluation. nan_share: of the steps, drawn like dropout, whose pixels are not
    numbers; they spoil gradients and statistics.
    """

    stop_at = -1
    stop_scoring = False

    def __init__(self, num_classes: int, nan_share: float = 0.0) -> None:
        super().__init__()
        self.backbone, self.nan_share = TinyResNet(), nan_share
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(64, num_classes))

    def forward(self, clips):
        if self.training:
            if Stopping.stop_at == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            Stopping.stop_at -= 1
            if self.nan_share and torch.rand(()) < self.nan_share:
                clips = clips * torch.nan
        elif Stopping.stop_scoring:
            Stopping.stop_scoring = False
            os.kill(os.getpid(), signal.SIGTERM)
        features = self.backbone(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
        return self.head(features.mean(1))


class Ended(MeanColours):
    """Sends this process SIGTERM when it is made, or in the pass of evaluation that is its `at`-th (from 1)."""

    def __init__(self, num_classes: int, at: int = 0) -> None:
        super().__init__(num_classes)
        self.left = at
        self._count()

    def forward(self, clips):
        if not self.training:
            self._count()
        return super().forward(clips)

    def _count(self) -> None:
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        self.left -= 1


class Hungry(MeanColours):
    """Runs out of memory, as a GPU would, on more than `most` clips at once; in evaluation on `most_scored`."""

    most_scored = 1_000

    def __init__(self, num_classes: int, most: int = 2, error: type[RuntimeError] = torch.OutOfMemoryError) -> None:
        super().__init__(num_classes)
        self.norm, self.most, self.error = nn.BatchNorm1d(3), most, error

    def forward(self, clips):
        colours = self.norm(clips.mean((3, 4)).flatten(0, 1)).unflatten(0, clips.shape[:2]).mean(1)
        if self.training:
            colours = colours + torch.rand(3)
        if len(clips) > (self.most if self.training else self.most_scored):
            raise self.error(f"CUDA error: CUBLAS_STATUS_ALLOC_FAILED with {len(clips)} clips")
        return self.head(colours)
