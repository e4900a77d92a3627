"""The run, from shards to report, readable from top to bottom."""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trainer import monitor, report
from trainer.cache import choose_cache
from trainer.checkpoint import check_resumable, load_newest, write_atomically
from trainer.distributed import Group
from trainer.engine import Engine, choose_dtype
from trainer.errors import Interrupted, TrainerError
from trainer.finish import final_report, save_model
from trainer.loader import ClipLoader
from trainer.losses import build_loss
from trainer.models import build_model
from trainer.optimizers import Schedule, build_optimizer
from trainer.settings import Settings
from trainer.shards import ShardSet, choose_splits, open_shards
from trainer.state import Progress, load_state, save_state, total_sums
from trainer.stop import StopWatch

VOTE_STEPS = 10  # between votes of several ranks on whether to stop


@dataclass
class Run:
    """One run's parts, made once and passed down."""

    settings: Settings
    shards: ShardSet
    loaders: dict[str, ClipLoader]  # by split; val is always there, test where the shards have it
    model: nn.Module
    engine: Engine
    group: Group
    out: Path
    progress: Progress
    notes: list[str]

    def say(self, line: str) -> None:
        if self.group.is_main:
            print(line, file=sys.stderr, flush=True)


def train(settings: Settings, shards_folder: Path, out: Path, group: Group, resume: bool) -> dict:
    """Train, choose the best epoch on validation, evaluate it on test; returns experiment_results.json's content.

    Raises ShardifyError for all that stops a run; Interrupted after a signal or max_hours, with a checkpoint made.
    """
    run = prepare(settings, shards_folder, out, group)
    if resume:
        go_on(run)
    results = out / "results" / "experiment_results.json"
    if is_over(run) and results.exists():
        run.say(f"{out} is complete: nothing left to train")
        return json.loads(results.read_text())
    if group.is_main:
        write_atomically(out / "config.yaml", yaml.safe_dump(run.settings.to_dict(), sort_keys=False).encode())
    monitor.show_opening(run)
    stop = StopWatch(settings.max_hours)
    try:
        while not is_over(run):
            figures = train_epoch(run, stop)
            validate_epoch(run, figures)
            if group.any(bool(stop.check())) and not is_over(run):
                raise Interrupted(monitor.stopped_line(run, stop.reason))
    finally:
        stop.close()
    return final_report(run)


def prepare(settings: Settings, shards_folder: Path, out: Path, group: Group) -> Run:
    """Open the shards, build the model and all that trains it."""
    torch.manual_seed(settings.seed)
    torch.backends.cudnn.benchmark = True  # shapes hardly change
    settings = resolve_auto(settings, group)
    shards = open_shards(shards_folder, settings.data.sheet_frames)
    splits, notes = choose_splits(shards, settings.data.val_fraction, settings.seed)
    loaders = make_loaders(settings, shards, splits, group)
    model = build_model(settings.model, len(shards.classes), shards.size)
    engine = make_engine(settings, shards, loaders["train"], model, group)
    return Run(settings, shards, loaders, model, engine, group, out, Progress(), notes)


def resolve_auto(settings: Settings, group: Group) -> Settings:
    """Settings that depend on the machine, made definite so that they are recorded and compared as they were used."""
    if settings.model.backbone != "auto":
        return settings
    backbone = "resnet50" if group.device.type == "cuda" else "resnet18"
    return dataclasses.replace(settings, model=dataclasses.replace(settings.model, backbone=backbone))


def make_loaders(
    settings: Settings, shards: ShardSet, splits: dict[str, np.ndarray], group: Group
) -> dict[str, ClipLoader]:
    """One loader per split; they share one decision on the cache."""
    num_clips = sum(map(len, splits.values()))
    cache = choose_cache(settings.data.cache, num_clips * shards.frames * shards.size**2 * 3, group.device, group.world)
    return {
        split: ClipLoader(
            shards,
            split,
            settings.batch_size,
            seed=settings.seed,
            device=group.device,
            numbers=numbers,
            cache=cache,
            workers=settings.data.workers,
            on_error=settings.data.on_error,
            max_errors=settings.data.max_errors,
            balanced=settings.data.balanced,
            shuffle_shards=settings.data.shuffle_shards,
            rank=group.rank,
            world=group.world,
        )
        for split, numbers in splits.items()
    }


def make_engine(settings: Settings, shards: ShardSet, loader: ClipLoader, model: nn.Module, group: Group) -> Engine:
    model.to(group.device, memory_format=torch.channels_last)
    wrapped = model
    if group.world > 1:
        devices = [group.device] if group.device.type == "cuda" else None
        wrapped = nn.parallel.DistributedDataParallel(model, device_ids=devices)
    labels = shards.samples["label"][loader.numbers]
    dtype = choose_dtype(settings.amp, group.device)
    optimizer = build_optimizer(model, settings.optimizer)
    return Engine(
        model=wrapped,
        loss=build_loss(settings.loss, labels, len(shards.classes), group.device),
        optimizer=optimizer,
        schedule=Schedule(optimizer, settings.scheduler, settings.epochs, len(loader), settings.metric != "loss"),
        scaler=torch.amp.GradScaler(group.device.type, enabled=dtype == torch.float16),
        dtype=dtype,
        settings=settings,
        group=group,
        ema=averaged(model, settings.ema) if settings.ema else None,
    )


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of the weights and the batch norm statistics."""
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def go_on(run: Run) -> None:
    """Put the newest checkpoint's state back; without one the run starts at step 0."""
    checkpoint = load_newest(run.out / "checkpoints", run.say)
    if checkpoint is None:
        return
    check_resumable(checkpoint, run.settings.to_dict(), run.shards.fingerprint)
    run.progress = load_state(run.engine, run.model, checkpoint)
    if not is_over(run):
        run.say(f"going on at epoch {run.progress.epoch + 1}, step {run.progress.step}")


def is_over(run: Run) -> bool:
    """Whether all epochs are trained, or validation has not improved for long enough."""
    settings, progress = run.settings, run.progress
    if settings.early_stopping and progress.epoch - progress.best_epoch >= settings.early_stopping:
        return True
    return progress.epoch >= settings.epochs


def train_epoch(run: Run, stop: StopWatch) -> dict:
    """Train from the progress' position to the epoch's end; returns the epoch's figures."""
    settings, progress, loader = run.settings, run.progress, run.loaders["train"]
    every, steps = settings.checkpoint_every_steps, len(loader)
    sums = torch.tensor(progress.sums, dtype=torch.float64, device=run.group.device)
    display = monitor.Monitor(f"epoch {progress.epoch + 1}/{settings.epochs}", steps, progress.step, run.group.is_main)
    waited = loader.wait_seconds

    def after_step(step: int) -> bool:
        """Checkpoint where it is due; True to stop here."""
        display.update(step, loader.step_clips(step), sums, loader.wait_seconds - waited)
        if step + 1 == steps:
            return False
        # all ranks vote at the same steps; with several, a vote makes the CPU wait for the GPU
        votes = run.group.world == 1 or (step + 1) % VOTE_STEPS == 0
        ends = votes and run.group.any(bool(stop.check()))
        if ends or (every and (step + 1) % every == 0):
            progress.step, progress.sums = step + 1, total_sums(run.engine, sums)
            save_state(run.engine, run.model, progress, steps, run.out, run.shards.fingerprint)
        return ends

    ended_early = run.engine.train_epoch(loader, progress.epoch, progress.step, sums, after_step)
    seconds = display.close()
    if ended_early:
        raise Interrupted(monitor.stopped_line(run, stop.reason))
    loss, right, count = total_sums(run.engine, sums)
    if not np.isfinite(loss):
        raise TrainerError(f"the loss of epoch {progress.epoch + 1} is {loss}; lower optimizer.lr, or use amp=float32")
    progress.clips += display.clips
    progress.seconds += seconds
    progress.wait_seconds += loader.wait_seconds - waited
    return {
        "epoch": progress.epoch + 1,
        "lr": run.engine.optimizer.param_groups[0]["lr"],
        "train_loss": loss / count,
        "train_accuracy": right / count,
        "epoch_seconds": round(seconds, 3),
        "clips_per_second": round(display.clips / seconds, 2),
        "data_wait": round((loader.wait_seconds - waited) / seconds, 5),
    }


def validate_epoch(run: Run, figures: dict) -> None:
    """Evaluate, record the epoch, keep the model if it is the best so far, move the learning rate, checkpoint."""
    settings, progress = run.settings, run.progress
    validation = report.split_figures(run.engine.evaluate(run.loaders["val"]), "val")
    row = figures | {f"val_{name}": value for name, value in report.figures_of(validation).items()}
    progress.history.append(row)
    value = validation[settings.metric]
    if value is None:  # with one class in validation the metric is undefined; its loss still says something
        value = -validation["loss"]
    sign = -1 if settings.metric == "loss" else 1
    better = progress.best_value is None or sign * value > sign * progress.best_value
    if better:
        progress.best_value, progress.best_epoch = value, progress.epoch + 1
        if run.group.is_main:
            save_model(run)
    run.engine.schedule.after_epoch(value)
    progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, [0.0, 0.0, 0.0]
    run.say(monitor.epoch_line(row, settings, better))
    if run.group.is_main:
        report.write_history(run.out / "results", progress.history, settings.metric)
    save_state(run.engine, run.model, progress, len(run.loaders["train"]), run.out, run.shards.fingerprint)
