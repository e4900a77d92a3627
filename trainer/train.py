"""The run, from shards to report, readable from top to bottom."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors.torch import save as safetensors_bytes
from torch import nn

from trainer import report
from trainer.cache import choose_cache
from trainer.checkpoint import check_resumable, load_newest, save_checkpoint, write_atomically
from trainer.distributed import Group
from trainer.engine import Engine, choose_dtype
from trainer.errors import Interrupted, TrainerError
from trainer.loader import ClipLoader
from trainer.losses import build_loss
from trainer.models import build_model
from trainer.monitor import Monitor
from trainer.optimizers import Schedule, build_optimizer
from trainer.settings import Settings
from trainer.shards import ShardSet, choose_splits, open_shards
from trainer.stop import StopWatch


@dataclass
class Progress:
    """Where a run stands: with the weights, all that a checkpoint holds."""

    epoch: int = 0  # the epoch to go on in, from 0
    step: int = 0  # the step in it to go on at
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # loss, right, clips of the begun epoch
    history: list[dict] = field(default_factory=list)
    best_value: float | None = None
    best_epoch: int = 0  # counted from 1, as in the history
    clips: int = 0  # trained on, and the seconds it took, over the whole run
    seconds: float = 0.0
    wait_seconds: float = 0.0


def train(settings: Settings, shards_folder: Path, out: Path, group: Group, resume: bool) -> dict:
    """Train, choose the best epoch on validation, evaluate it on test; returns experiment_results.json's content.

    Raises ShardifyError for all that stops a run; Interrupted after a signal or max_hours, with a checkpoint made.
    """
    torch.manual_seed(settings.seed)
    settings = resolve_auto(settings, group)
    shards = open_shards(shards_folder)
    splits, notes = choose_splits(shards, settings.data.val_fraction, settings.seed)
    say = _say if group.is_main else _silent
    for note in notes:
        say(f"note: {note}")
    loaders = make_loaders(settings, shards, splits, group)
    model = build_model(settings.model, len(shards.classes))
    engine = make_engine(settings, shards, loaders["train"], model, group)
    weights = getattr(model, "weights_origin", "the model's own")
    if settings.model.weights == "auto" and weights.startswith("random"):
        say(f"warning: weights are {weights}; training starts from scratch")
    checkpoint = load_newest(out / "checkpoints", say) if resume else None
    progress = Progress()
    if checkpoint:
        check_resumable(checkpoint, settings.to_dict(), shards.fingerprint)
        progress = load_state(engine, model, checkpoint)
        say(f"going on at epoch {progress.epoch + 1}, step {progress.step}")
    elif group.is_main:
        write_atomically(out / "config.yaml", yaml.safe_dump(settings.to_dict(), sort_keys=False).encode())
    say(_opening(settings, shards, splits, loaders["train"], model, group))

    stop = StopWatch(settings.max_hours)
    try:
        while progress.epoch < settings.epochs:
            figures = train_one_epoch(engine, model, loaders["train"], progress, stop, out, shards.fingerprint)
            validation = report.split_figures(engine.evaluate(loaders["val"]), "val")
            finish_epoch(engine, model, progress, figures, validation, out, shards, say)
            if group.any(bool(stop.check())) and progress.epoch < settings.epochs:
                raise Interrupted(_stopped(stop, progress, out))
    finally:
        stop.close()
    return final_report(engine, model, loaders, progress, notes, out, shards, weights)


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
    cache = choose_cache(settings.data.cache, num_clips * shards.frames * shards.size**2 * 3, group.device)
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
            rank=group.rank,
            world=group.world,
        )  # fmt: skip
        for split, numbers in splits.items()
    }


def make_engine(settings: Settings, shards: ShardSet, loader: ClipLoader, model: nn.Module, group: Group) -> Engine:
    model.to(group.device, memory_format=torch.channels_last)
    wrapped = model
    if group.world > 1:
        devices = [group.device] if group.device.type == "cuda" else None
        wrapped = nn.parallel.DistributedDataParallel(model, device_ids=devices)
    torch.backends.cudnn.benchmark = True  # shapes hardly change
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
    )


def train_one_epoch(
    engine: Engine, model: nn.Module, loader: ClipLoader, progress: Progress, stop: StopWatch, out: Path, data: str
) -> dict:
    """Train from the progress' position to the epoch's end; returns the epoch's figures."""
    settings, group = engine.settings, engine.group
    epoch, steps = progress.epoch, len(loader)
    sums = torch.tensor(progress.sums, dtype=torch.float64, device=group.device)
    monitor = Monitor(f"epoch {epoch + 1}/{settings.epochs}", steps, progress.step, group.is_main)
    waited = loader.wait_seconds

    def after_step(step: int) -> bool:
        clips = min(settings.batch_size, len(loader.numbers) - step * settings.batch_size)
        monitor.update(step, clips, sums, loader.wait_seconds - waited)
        if step + 1 == steps:
            return False
        ends = group.any(bool(stop.check()))
        if ends or (settings.checkpoint_every_steps and (step + 1) % settings.checkpoint_every_steps == 0):
            progress.step, progress.sums = step + 1, sums.tolist()
            save_state(engine, model, progress, out, data)
        return ends

    engine.train_epoch(loader, epoch, progress.step, sums, after_step)
    seconds = monitor.close()
    if stop.reason and progress.step:
        raise Interrupted(_stopped(stop, progress, out))
    loss, right, count = sums.tolist()
    if group.world > 1:
        loss, right, count = group.gather(sums.cpu().numpy()[None]).sum(0)
    if not np.isfinite(loss):
        raise TrainerError(f"the loss of epoch {epoch + 1} is {loss}; lower optimizer.lr, or use amp=float32")
    progress.clips += monitor.clips
    progress.seconds += seconds
    progress.wait_seconds += loader.wait_seconds - waited
    return {
        "epoch": epoch + 1,
        "lr": engine.optimizer.param_groups[0]["lr"],
        "train_loss": float(loss / count),
        "train_accuracy": float(right / count),
        "epoch_seconds": round(seconds, 3),
        "clips_per_second": round(monitor.clips / seconds, 2),
        "data_wait": round((loader.wait_seconds - waited) / seconds, 5),
    }


def finish_epoch(
    engine: Engine,
    model: nn.Module,
    progress: Progress,
    figures: dict,
    validation: dict,
    out: Path,
    shards: ShardSet,
    say,
) -> None:
    """Record the epoch, keep the model if it is the best so far, move the learning rate, checkpoint."""
    settings = engine.settings
    row = figures | {f"val_{name}": value for name, value in report.figures_of(validation).items()}
    progress.history.append(row)
    value = validation[settings.metric]
    if value is None:  # one class only in validation
        value = -validation["loss"] if settings.metric != "loss" else validation["loss"]
    better = progress.best_value is None or (
        value < progress.best_value if settings.metric == "loss" else value > progress.best_value
    )
    if better:
        progress.best_value, progress.best_epoch = value, progress.epoch + 1
        if engine.group.is_main:
            save_model(model, settings, shards, out)
    engine.schedule.after_epoch(value)
    progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, [0.0, 0.0, 0.0]
    say(_epoch_line(row, settings, better))
    if engine.group.is_main:
        report.write_history(out / "results", progress.history, settings.metric)
    save_state(engine, model, progress, out, shards.fingerprint)


def save_state(engine: Engine, model: nn.Module, progress: Progress, out: Path, shards_fingerprint: str) -> None:
    if not engine.group.is_main:
        return
    steps = sum(1 for _ in progress.history)  # epochs done; the name below counts in epochs and steps
    state = {
        "model": model.state_dict(),
        "optimizer": engine.optimizer.state_dict(),
        "schedule": engine.schedule.state_dict(),
        "scaler": engine.scaler.state_dict(),
        "progress": dataclasses.asdict(progress),
        "settings": engine.settings.to_dict(),
        "shards": shards_fingerprint,
    }
    save_checkpoint(out / "checkpoints", state, steps * 100_000 + progress.step, engine.settings.keep_checkpoints)


def load_state(engine: Engine, model: nn.Module, state: dict) -> Progress:
    model.load_state_dict(state["model"])
    engine.optimizer.load_state_dict(state["optimizer"])
    engine.schedule.load_state_dict(state["schedule"])
    engine.scaler.load_state_dict(state["scaler"])
    return Progress(**state["progress"])


def save_model(model: nn.Module, settings: Settings, shards: ShardSet, out: Path) -> None:
    """The best model so far, as .pth and .safetensors, with what is needed to use it."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    about = {
        "settings": settings.to_dict(),
        "classes": shards.classes,
        "frames": shards.frames,
        "size": shards.size,
    }
    buffer = io.BytesIO()
    torch.save({"model": weights, **about}, buffer)
    write_atomically(out / "models" / "best_model.pth", buffer.getvalue())
    metadata = {name: json.dumps(value) for name, value in about.items()}
    write_atomically(out / "models" / "best_model.safetensors", safetensors_bytes(weights, metadata))


def final_report(
    engine: Engine, model: nn.Module, loaders: dict[str, ClipLoader], progress: Progress, notes: list[str], out: Path,
    shards: ShardSet, weights: str,
) -> dict:  # fmt: skip
    """Evaluate the best model on test (without one, on val) and write results/."""
    settings, group = engine.settings, engine.group
    best = torch.load(out / "models" / "best_model.pth", map_location="cpu", weights_only=True)
    model.load_state_dict(best["model"])
    split = "test" if "test" in loaders else "val"
    predictions = engine.evaluate(loaders[split])
    damaged = sorted({message for loader in loaders.values() for message in loader.damaged.values()})
    record = {
        "run": out.name,
        "test": report.split_figures(predictions, split),
        "validation": report.split_figures(engine.evaluate(loaders["val"]), "val"),
        "metric": settings.metric,
        "best_epoch": progress.best_epoch,
        "epochs_trained": progress.epoch,
        "settings": settings.to_dict(),
        "classes": shards.classes,
        "shards": {
            "folder": str(shards.folder),
            "fingerprint": shards.fingerprint,
            "clips": {name: len(loader.numbers) for name, loader in loaders.items()},
        },
        "model": {
            "name": settings.model.name,
            "backbone": settings.model.backbone,
            "weights": weights,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        },
        "training": {
            "clips_per_second": progress.clips / max(progress.seconds, 1e-9),
            "data_wait": progress.wait_seconds / max(progress.seconds, 1e-9),
            "cache": loaders["train"].cache,
        },
        "environment": report.environment(group.device, engine.dtype, group.world),
        "damaged_clips": damaged,
        "notes": notes + ([f"{len(damaged)} damaged clips were skipped"] if damaged else []),
    }
    if group.is_main:
        report.write_results(out / "results", record, shards, predictions)
    return record


def _opening(
    settings: Settings,
    shards: ShardSet,
    splits: dict[str, np.ndarray],
    loader: ClipLoader,
    model: nn.Module,
    group: Group,
) -> str:
    counts = ", ".join(f"{len(numbers)} {name}" for name, numbers in splits.items())
    size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    where = report.environment(group.device, choose_dtype(settings.amp, group.device), group.world)
    return (
        f"{shards.folder}: {counts} clips of {shards.frames}×{shards.size} px, classes {', '.join(shards.classes)}\n"
        f"{settings.model.name} on {settings.model.backbone}, {size:.1f} M parameters; {where['device']}, "
        f"{where['precision']}; cache: {loader.cache}"
    )


def _epoch_line(row: dict, settings: Settings, better: bool) -> str:
    name = "auc_roc" if settings.metric == "loss" else settings.metric
    value = row[f"val_{name}"]
    return (
        f"epoch {row['epoch']}/{settings.epochs}: loss {row['train_loss']:.4f}, accuracy {row['train_accuracy']:.3f}; "
        f"validation: loss {row['val_loss']:.4f}, {name} {'undefined' if value is None else f'{value:.4f}'}"
        f"{' *' if better else ''}; {row['clips_per_second']:.0f} clips/s, data wait {row['data_wait']:.1%}, "
        f"{row['epoch_seconds']:.1f} s"
    )


def _stopped(stop: StopWatch, progress: Progress, out: Path) -> str:
    return (
        f"{stop.reason or 'another process was stopped'} at epoch {progress.epoch + 1}, step {progress.step}; "
        f"a checkpoint is written; the same command with --out {out} --resume goes on"
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _silent(line: str) -> None:
    pass
