"""What a run is made of: loaders, the engine and what belongs to it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from torch import Tensor, nn

from trainer.averaging import MovingAverage
from trainer.cache import TIERS, choose_cache, explain_choice
from trainer.distributed import Group
from trainer.engine import Engine, choose_dtype
from trainer.errors import FormatError
from trainer.freezing import Freezing
from trainer.loader import ClipLoader
from trainer.losses import build_loss
from trainer.metrics import classification_metrics, regression_metrics
from trainer.models import build_for
from trainer.models.batch_norm import allow_single_values
from trainer.models.compiled import compile_backbone
from trainer.models.memory import checkpoint_blocks
from trainer.models.regressor import Regressor
from trainer.optimizers import Schedule, build_optimizer
from trainer.order import num_steps
from trainer.resolve import with_model
from trainer.settings import Settings
from trainer.shards import ShardSet, input_shape


def check_classes(settings: Settings, shards: ShardSet, splits: dict[str, np.ndarray]) -> tuple[Settings, list[str]]:
    """A note on each split that lacks classes; where the metric is undefined on val, the loss chooses the best epoch.

    Raises FormatError where train has one class.
    """
    if settings.loss.is_regression:
        notes, targets = {}, targets_of(shards, splits["val"])
        perfect = regression_metrics(targets, targets)
    else:
        notes, labels = _missing_classes(shards, splits), shards.samples["label"][splits["val"]]
        perfect = classification_metrics(labels, np.eye(len(shards.classes))[labels])
    if perfect.get(settings.metric, 0) is None:
        why = notes.get("val", "val's targets are all the same")
        notes["val"] = f"{why}: {settings.metric} is undefined there, so the best epoch is chosen by val's loss"
        settings = dataclasses.replace(settings, metric="loss")
    return settings, list(notes.values())


def _missing_classes(shards: ShardSet, splits: dict[str, np.ndarray]) -> dict[str, str]:
    """split → what it lacks."""
    counts = {split: class_counts(shards, numbers) for split, numbers in splits.items()}
    present = np.flatnonzero(counts["train"])
    if len(present) < 2:
        what, remedy = "train", "build shards with two or more there, or learn the targets with loss.name=mse"
        if np.count_nonzero(class_counts(shards, shards.numbers("train"))) > 1:
            what, remedy = "what is left of train once val is held out", "build a val split of other videos"
        raise FormatError(f"{shards.folder}: {what} has one class, {shards.classes[present[0]]}; {remedy}")
    missing = {split: [shards.classes[k] for k in np.flatnonzero(count == 0)] for split, count in counts.items()}
    return {split: f"{split} has no clips of {', '.join(names)}" for split, names in missing.items() if names}


def make_model(settings: Settings, shards: ShardSet, numbers: np.ndarray, checkpoint: dict | None) -> nn.Module:
    """The model to train on the clips of these numbers; with a checkpoint, whose weights will replace these, it needs
    no pretrained ones."""
    if checkpoint:
        settings = with_model(settings, weights="none")
    _, size = input_shape(shards, settings.data.frames, settings.data.size)
    model = build_for(settings, len(shards.classes), size)
    if checkpoint:
        model.weights_origin = checkpoint["progress"]["weights_origin"]
    if isinstance(model, Regressor):
        model.fit(targets_of(shards, numbers))
    if settings.model.gradient_checkpointing:
        checkpoint_blocks(model)
    return model


def targets_of(shards: ShardSet, numbers: np.ndarray) -> np.ndarray:
    """float64 (N,). Raises FormatError where that of any clip, of whatever split, is not finite."""
    targets = shards.samples["target"]
    is_bad = ~np.isfinite(targets)
    if is_bad.any():
        number = int(is_bad.argmax())
        raise FormatError(f"{shards.where(number)}: its target is {targets[number]}; correct the manifest, build again")
    return targets[numbers]


def target_notes(settings: Settings, shards: ShardSet) -> list[str]:
    """For people: what regression would learn without saying so."""
    if settings.loss.is_regression and (shards.samples["target"] == shards.samples["label"]).all():
        return [f"every target is its class's number, 0 for {shards.classes[0]}: the shards were built without targets"]
    return []


def choose_run_cache(
    settings: Settings, shards: ShardSet, splits: dict[str, np.ndarray], group: Group
) -> tuple[str, int, list[str]]:
    """One decision for all splits' decoded clips, the bytes that they will take on the device, and what `auto` chose.

    All ranks take what the least of them has room for.
    """
    num_bytes = sum(map(len, splits.values())) * shards.frames * shards.size**2 * 3
    choices = group.gather(np.array([TIERS.index(choose_cache(settings.data.cache, num_bytes, group.device))]))
    cache = TIERS[choices.max()]
    notes = [explain_choice(cache, num_bytes, group.device)] if settings.data.cache == "auto" else []
    return cache, num_bytes if cache == "device" else 0, notes


def make_loaders(
    settings: Settings, shards: ShardSet, splits: dict[str, np.ndarray], cache: str, group: Group
) -> dict[str, ClipLoader]:
    """One loader per split."""
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
            allot=group.shared_memory,
        )
        for split, numbers in splits.items()
    }


def make_engine(settings: Settings, shards: ShardSet, numbers: np.ndarray, model: nn.Module, group: Group) -> Engine:
    """All that trains the model, moved to the group's device. numbers: of the clips to train on, int64 (N,)."""
    allow_single_values(model)
    model.to(group.device, memory_format=torch.channels_last)
    group.broadcast([*model.parameters(), *model.buffers()])  # a custom model may draw them by a generator of its own
    dtype = choose_dtype(settings.amp, group.device)
    optimizer = build_optimizer(model, settings.optimizer)
    steps = num_steps(len(numbers), settings.batch_size)
    return Engine(
        model=model,
        loss=build_loss(settings.loss, class_counts(shards, numbers), group.device, loss_unit(model)),
        optimizer=optimizer,
        schedule=Schedule(optimizer, settings.scheduler, settings.epochs, steps, settings.maximises),
        scaler=torch.amp.GradScaler(group.device.type, enabled=dtype == torch.float16),
        dtype=dtype,
        settings=settings,
        group=group,
        freezing=Freezing(model, settings.model),
        targets=shards.samples["target"] if settings.loss.is_regression else None,
        ema=MovingAverage(model, settings.ema) if settings.ema else None,
    )


def class_counts(shards: ShardSet, numbers: np.ndarray) -> np.ndarray:
    """Clips of each class among these numbers, int64 (K,)."""
    return np.bincount(shards.samples["label"][numbers], minlength=len(shards.classes))


def loss_unit(model: nn.Module) -> Tensor | float:
    """What errors are measured in; a tensor is on the model's device."""
    return model.deviation if isinstance(model, Regressor) else 1.0


def compile_model(engine: Engine, loader: ClipLoader) -> list[str]:
    """Compile the backbone; why that could not be done, if it could not."""
    frames, size = input_shape(loader.shards, engine.settings.data.frames, engine.settings.data.size)
    clips = min(len(loader.numbers), math.ceil(loader.batch_size / engine.group.world / engine.accumulate))
    shape = (clips * frames, size, size, 3)
    engine.freezing.begin_epoch(0)  # compiled as it will run
    frames = torch.zeros(shape, device=engine.group.device).permute(0, 3, 1, 2)
    why_not = compile_backbone(engine.model, frames, engine.autocast())
    return [why_not] if why_not else []
