"""Progress of a run for people: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from shardify.text import duration
from trainer.devices import gpu
from trainer.devices.gpu import gpu_memory
from trainer.evaluation.report import classes_in_words
from trainer.monitor.profiler import StepProfiler
from trainer.monitor.step_table import StepTable
from trainer.monitor.tensorboard import open_events, write_events
from trainer.shards.shard_set import input_shape

if TYPE_CHECKING:
    from trainer.config.settings import Settings
    from trainer.run import Run

logger = logging.getLogger(__name__)

LINE_SECONDS = 15.0
BAR_SECONDS = 0.5  # reading the loss makes the CPU wait for the GPU, so it is not read every step


class Monitor:
    """The display of one epoch: the task's figures, speed, data wait, learning rate, the GPU, time left."""

    def __init__(self, run: Run) -> None:
        settings, progress = run.settings, run.progress
        self._run, self._steps = run, len(run.loaders["train"])
        self._steps_before = progress.epoch * self._steps  # of earlier epochs
        self._title = f"epoch {progress.epoch + 1}/{settings.epochs}"
        if settings.steps:
            self._title = f"to step {self._steps_before + self._steps}/{settings.steps}"
        in_notebook = "JPY_PARENT_PID" in os.environ  # its `!` looks like a terminal and keeps every redrawing
        self._is_terminal = sys.stderr.isatty() and not in_notebook
        hide = not (run.group.is_main and self._is_terminal)
        self._bar = tqdm(
            total=self._steps, initial=progress.step, desc=self._title, unit="step", disable=hide, dynamic_ncols=True
        )
        if run.group.device.type == "cuda" and progress.clips == 0:
            torch.cuda.reset_peak_memory_stats(run.group.device)  # trials of batch sizes do not count
        self._profiler = None
        if settings.profile and run.group.is_main and progress.clips == 0:
            self._profiler = StepProfiler(run.out / "profile", self._steps - progress.step, run.group.device)
        if settings.tensorboard and run.group.is_main and run.events is None:
            run.events = open_events(run.out, self._steps_before + progress.step)
        self._table = StepTable(run) if settings.steps else None
        self._first_step = progress.step
        self._start = self._last = time.monotonic()
        self._loader = run.loaders["train"]
        self._hits, self._misses = self._loader.hits, self._loader.misses
        self.clips = 0

    def update(self, step: int, clips: int, sums: dict[str, Tensor], wait_seconds: float) -> None:
        """Show where training stands, after every step; sums: of the epoch so far, as the engine keeps them."""
        self.clips += clips
        self._bar.update()
        if self._table:
            self._table.update(step, clips, sums, wait_seconds)
        if self._profiler:
            self._profiler.step()
        now = time.monotonic()
        pause = BAR_SECONDS if self._is_terminal else LINE_SECONDS
        if not self._run.group.is_main or now - self._last < pause:
            return
        self._last = now
        seconds = now - self._start
        totals = dict(zip(sums, torch.stack(list(sums.values())).tolist(), strict=True))
        figures = {
            **self._run.task.train_figures(totals),
            "lr": self._run.engine.optimizer.param_groups[0]["lr"],
            "clips_per_second": self.clips / seconds,
            "data_wait": wait_seconds / seconds,
            "cache_hits": self.cache_hits(),
            **gpu_figures(self._run.group.device),
        }
        steps_left = self._run.settings.rounds * self._steps - self._steps_before - step - 1
        text = live_line(figures, steps_left * seconds / (step + 1 - self._first_step))
        if self._run.events:
            write_events(self._run.events, figures, self._steps_before + step + 1)
        if self._is_terminal:
            self._bar.set_postfix_str(text, refresh=False)
        else:
            logger.info(f"{self._title}: step {step + 1}/{self._steps}, {text}")

    def cache_hits(self) -> float:
        """The share of this epoch's clips so far that came from the cache."""
        hits, misses = self._loader.hits - self._hits, self._loader.misses - self._misses
        return hits / max(1, hits + misses)

    def close(self) -> float:
        """End the display; returns the epoch's seconds, the device's work included."""
        if self._run.group.device.type == "cuda":
            torch.cuda.synchronize(self._run.group.device)
        self._bar.close()
        if self._profiler:
            self._profiler.close()
        return time.monotonic() - self._start


def live_line(figures: dict[str, float], seconds_left: float) -> str:
    """Where training stands, on one line of a terminal; the time left is that of the steps, without validation."""
    parts = [
        *(f"{name.removeprefix('train_')} {value:.3f}" for name, value in figures.items() if name.startswith("train_")),
        f"{figures['clips_per_second']:.0f} clips/s",
        f"data wait {figures['data_wait']:.1%}",
        f"cache {figures['cache_hits']:.0%}",
        f"lr {figures['lr']:.2g}",
    ]
    if "gpu_memory_gb" in figures:
        parts.append(f"GPU {figures['gpu_memory_gb']:.1f} GB ({figures['gpu_memory_share']:.0%})")
    if "gpu_use" in figures:
        parts.append(f"{figures['gpu_use']:.0%} busy")
    return ", ".join([*parts, f"{duration(seconds_left)} left"])


def gpu_figures(device: torch.device) -> dict[str, float]:
    """Peak memory so far, and how busy the GPU is, where that can be read."""
    use, _ = gpu.gpu_use(device)
    return gpu_memory(device) | ({} if use is None else {"gpu_use": use})


def show_epoch(run: Run, row: dict) -> None:
    """Write an epoch's figures as TensorBoard events."""
    if run.events:
        write_events(run.events, row, row["epoch"] * len(run.loaders["train"]))


def show_opening(run: Run) -> None:
    """Show what is about to be trained, on what, with which data."""
    shards, settings, loaders = run.shards, run.settings, run.loaders
    for note in run.notes:
        logger.info(f"note: {note}")
    weights = run.progress.weights_origin
    is_new = not (run.progress.epoch or run.progress.step)
    if is_new and "random (" in weights:  # in brackets, why there are no others
        logger.warning(f"weights are {weights}; what is random starts from scratch")
    counts = ", ".join(f"{len(loader.numbers)} {split}" for split, loader in loaders.items())
    size = sum(parameter.numel() for parameter in run.model.parameters()) / 1e6
    use, why = gpu.gpu_use(run.group.device)
    if use is None and run.group.device.type == "cuda":
        logger.info(f"note: how busy the GPU is cannot be shown ({why})")
    where = gpu.environment(run.group.device, run.engine.dtype, run.group.world)
    frames, side = input_shape(shards, settings.data.frames, settings.data.size)
    less = (frames, side) != (shards.frames, shards.size)
    stored = f" (stored: {shards.frames}, {shards.size} px)" if less else ""
    classes = classes_in_words({head.name: head.classes for head in shards.heads})
    logger.info(f"{shards.name}: {counts} clips of {frames} frames, {side} px{stored}; {classes}")
    logger.info(
        f"{settings.model.described}, {size:.1f} M parameters; {where['device']}, {where['precision']}; "
        f"cache: {loaders['train'].cache}"
    )


def epoch_line(row: dict, settings: Settings, metric: str, better: bool) -> str:
    """An epoch in one line; metric: of validation, beside the loss; * marks the best so far."""
    others = [name for name in row if name.startswith("train_") and name != "train_loss"]
    train = [f"loss {row['train_loss']:.4f}", *(f"{name.removeprefix('train_')} {row[name]:.3f}" for name in others)]
    value = row[f"val_{metric}"]
    shown = "" if metric == "loss" else f", {metric} {'undefined' if value is None else f'{value:.4f}'}"
    where = f"step {row['step']}/{settings.steps}" if settings.steps else f"epoch {row['epoch']}/{settings.epochs}"
    return (
        f"{where}: {', '.join(train)}; validation: loss {row['val_loss']:.4f}{shown}"
        f"{' *' if better else ''}; {row['clips_per_second']:.0f} clips/s, data wait {row['data_wait']:.1%}, "
        f"{_cache_hits(row)}{row['epoch_seconds']:.1f} s"
    )


def _cache_hits(row: dict) -> str:
    return f"{row['cache_hits']:.0%} from the cache, " if row.get("cache_hits") else ""


def stopped_line(run: Run, reason: str | None) -> str:
    """Why and where a run ended early, and how to resume it."""
    return (
        f"{reason or 'another process was stopped'} at {run.settings.place(run.progress.epoch, run.progress.step)}; "
        f"a checkpoint is written; the same command with --out {run.out} --resume continues"
    )
