"""What a person sees while it trains: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from trainer import report
from trainer.finish import weights_origin
from trainer.settings import Settings

if TYPE_CHECKING:
    from trainer.train import Run

LINE_SECONDS = 15.0
BAR_SECONDS = 0.5  # reading the loss makes the CPU wait for the GPU, so it is not read every step


class Monitor:
    """Loss, accuracy, clips/s and data wait of one epoch."""

    def __init__(self, title: str, steps: int, first_step: int, is_main: bool) -> None:
        self._title, self._steps, self._is_main = title, steps, is_main
        self._is_terminal = sys.stderr.isatty()
        hide = not (is_main and self._is_terminal)
        self._bar = tqdm(total=steps, initial=first_step, desc=title, unit="step", disable=hide, dynamic_ncols=True)
        self._start = self._last = time.monotonic()
        self.clips = 0

    def update(self, step: int, clips: int, sums: Tensor, wait_seconds: float) -> None:
        self.clips += clips
        self._bar.update()
        now = time.monotonic()
        if not self._is_main or now - self._last < (BAR_SECONDS if self._is_terminal else LINE_SECONDS):
            return
        self._last = now
        loss, right, count = sums.tolist()
        count = max(count, 1)
        text = (
            f"loss {loss / count:.3f}, accuracy {right / count:.3f}, {self.clips / (now - self._start):.0f} clips/s, "
            f"data wait {wait_seconds / (now - self._start):.1%}"
        )
        if self._is_terminal:
            self._bar.set_postfix_str(text, refresh=False)
        else:
            print(f"{self._title}: step {step + 1}/{self._steps}, {text}", file=sys.stderr, flush=True)

    def close(self) -> float:
        """Ends the display; the epoch's seconds, the device's work included."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._bar.close()
        return time.monotonic() - self._start


def show_opening(run: Run) -> None:
    """What is about to be trained, on what, with which data."""
    shards, settings, loaders = run.shards, run.settings, run.loaders
    for note in run.notes:
        run.say(f"note: {note}")
    weights = weights_origin(run)
    if settings.model.weights == "auto" and weights.startswith("random"):
        run.say(f"warning: weights are {weights}; training starts from scratch")
    counts = ", ".join(f"{len(loader.numbers)} {split}" for split, loader in loaders.items())
    size = sum(parameter.numel() for parameter in run.model.parameters()) / 1e6
    where = report.environment(run.group.device, run.engine.dtype, run.group.world)
    run.say(
        f"{shards.folder}: {counts} clips of {shards.frames} frames, {shards.size} px; "
        f"classes {', '.join(shards.classes)}"
    )
    run.say(
        f"{settings.model.name} on {settings.model.backbone}, {size:.1f} M parameters; {where['device']}, "
        f"{where['precision']}; cache: {loaders['train'].cache}"
    )


def epoch_line(row: dict, settings: Settings, better: bool) -> str:
    """An epoch in one line; * marks the best so far."""
    name = "auc_roc" if settings.metric == "loss" else settings.metric
    value = row[f"val_{name}"]
    return (
        f"epoch {row['epoch']}/{settings.epochs}: loss {row['train_loss']:.4f}, accuracy {row['train_accuracy']:.3f}; "
        f"validation: loss {row['val_loss']:.4f}, {name} {'undefined' if value is None else f'{value:.4f}'}"
        f"{' *' if better else ''}; {row['clips_per_second']:.0f} clips/s, data wait {row['data_wait']:.1%}, "
        f"{row['epoch_seconds']:.1f} s"
    )


def stopped_line(run: Run, reason: str | None) -> str:
    """Why and where a run ended early, and how to go on."""
    return (
        f"{reason or 'another process was stopped'} at epoch {run.progress.epoch + 1}, step {run.progress.step}; "
        f"a checkpoint is written; the same command with --out {run.out} --resume goes on"
    )
