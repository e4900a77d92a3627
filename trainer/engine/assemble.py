"""The parts of a run, made from its settings: model, loaders, engine."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from trainer.config.settings import Settings
from trainer.data.arguments import choose_members
from trainer.data.cache import TIERS, choose_cache, explain_choice
from trainer.data.loader import ClipLoader
from trainer.data.order import num_steps
from trainer.devices.distributed import Group
from trainer.devices.memory import move_model
from trainer.engine.ema import MovingAverage
from trainer.engine.engine import Engine
from trainer.engine.evaluate import choose_dtype
from trainer.engine.freezing import Freezing
from trainer.engine.optimizer import Schedule, build_optimizer
from trainer.engine.probe import Probe, some_of
from trainer.models.batch_norm import allow_single_values
from trainer.models.compile import compile_backbone
from trainer.models.gradient_checkpointing import checkpoint_backbone
from trainer.shards.shard_set import ShardSet, input_shape
from trainer.tasks import task_of


def make_model(settings: Settings, shards: ShardSet, numbers: np.ndarray, checkpoint: dict | None) -> nn.Module:
    """The model to train on the clips of these numbers; with a checkpoint, whose weights will replace these, it needs
    no pretrained ones."""
    own = settings.model.for_saved_weights() if checkpoint else settings.model
    _, size = input_shape(shards, settings.data.frames, settings.data.size)
    task = task_of(settings, shards.heads, shards.members)
    model = task.build_model(own, len(shards.classes), size)
    if checkpoint:
        model.weights_origin = checkpoint["progress"]["weights_origin"]
    task.fit(model, shards, numbers)
    if settings.model.gradient_checkpointing:
        checkpoint_backbone(model)
    return model


def choose_run_cache(
    settings: Settings, shards: ShardSet, splits: dict[str, np.ndarray], group: Group
) -> tuple[str, int, list[str]]:
    """One decision for all splits' decoded clips, the bytes that they will take on the device, and what `auto` chose.

    All ranks take what the least of them has room for.
    """
    task = task_of(settings, shards.heads, shards.members)
    members = choose_members(task.read_members(shards), shards).values()
    clips = sum(map(len, splits.values()))
    if task.compares_train:  # in a cache of their own
        clips += min(len(splits["train"]), len(splits["val"]))
    num_bytes = clips * sum(member.num_bytes for member in members)
    choices = group.gather(np.array([TIERS.index(choose_cache(settings.data.cache, num_bytes, group.device))]))
    cache = TIERS[choices.max()]
    notes = [explain_choice(cache, num_bytes, group.device)] if settings.data.cache == "auto" else []
    return cache, num_bytes if cache == "device" else 0, notes


def make_loaders(
    settings: Settings, shards: ShardSet, splits: dict[str, np.ndarray], cache: str, group: Group
) -> dict[str, ClipLoader]:
    """One loader per split."""
    members = task_of(settings, shards.heads, shards.members).read_members(shards)
    return {
        split: ClipLoader(
            shards,
            split,
            settings.batch_size,
            members=members,
            seed=settings.seed,
            device=group.device,
            numbers=numbers,
            cache=cache,
            workers=settings.data.workers,
            on_error=settings.data.on_error,
            max_errors=settings.data.max_errors,
            balanced=settings.data.balanced,
            pairs=settings.data.pairs,
            weights=settings.data.weights,
            shuffle_shards=settings.data.shuffle_shards,
            steps=settings.interval if split == "train" else None,
            rank=group.rank,
            world=group.world,
            allot=group.shared_memory,
        )
        for split, numbers in splits.items()
    }


def make_engine(settings: Settings, shards: ShardSet, numbers: np.ndarray, model: nn.Module, group: Group) -> Engine:
    """The engine that trains the model, moved to the group's device. numbers: of the clips to train on, int64 (N,)."""
    allow_single_values(model)
    move_model(model, group.device)
    group.broadcast([*model.parameters(), *model.buffers()])  # a custom model may draw them by a generator of its own
    dtype = choose_dtype(settings.amp, group.device)
    optimizer = build_optimizer(model, settings.optimizer)
    task = task_of(settings, shards.heads, shards.members)
    steps = settings.interval or num_steps(len(numbers), settings.batch_size)
    return Engine(
        task=task,
        model=model,
        loss=task.build_loss(model, task.class_counts(shards, numbers), group.device),
        labels=task.labels(shards),
        optimizer=optimizer,
        schedule=Schedule(optimizer, settings.scheduler, settings.rounds, steps, task.maximises(settings.metric)),
        scaler=torch.amp.GradScaler(group.device.type, enabled=dtype == torch.float16),
        dtype=dtype,
        settings=settings,
        group=group,
        freezing=Freezing(model, settings.model),
        real_and_fake=task.real_and_fake(shards) if settings.augment.self_blend else None,
        ema=MovingAverage(model, settings.ema) if settings.ema else None,
    )


def make_compared(engine: Engine, loaders: dict[str, ClipLoader]) -> tuple[ClipLoader | None, Probe | None]:
    """What says how far losses on train and on val part, for a task that compares them.

    A loader of clips of train, evenly chosen, as many as val has where train has so many, for each validation; and in a
    run that counts in steps the probe, for the time between validations.
    """
    if not engine.task.compares_train:
        return None, None
    train, val = loaders["train"], loaders["val"]
    probe = Probe(engine, train, val) if engine.settings.steps else None
    return some_of(train, len(val.numbers), val.options), probe


def compile_model(engine: Engine, loader: ClipLoader) -> list[str]:
    """Compile the backbone; returns why that could not be done, if it could not."""
    frames, size = input_shape(loader.shards, engine.settings.data.frames, engine.settings.data.size)
    clips = min(len(loader.numbers), math.ceil(loader.batch_size / engine.group.world / engine.accumulate))
    shape = (clips * frames, size, size, 3)
    engine.freezing.begin_epoch(0)  # compiled as it will run
    frames = torch.zeros(shape, device=engine.group.device).permute(0, 3, 1, 2)
    why_not = compile_backbone(engine.model, frames, engine.autocast())
    return [why_not] if why_not else []
