"""The losses of a few clips of train and of val, always the same, which say while training goes on how the two part."""

from __future__ import annotations

import dataclasses

import numpy as np

from trainer.data.arguments import LoaderOptions
from trainer.data.batches import KeptBatches
from trainer.data.loader import ClipLoader
from trainer.engine.engine import Engine
from trainer.engine.evaluate import Learned, evaluate

MOST = 64  # clips of each split: as much work as one or two training steps of 16, and a few megabytes of latents


class Probe:
    """Clips of train and as many of val, kept on the device, whose losses are computed by the weights in training.

    The task's draws are those of evaluation, alike on both and each time. Training goes on as if nothing had been
    computed: neither weights and statistics nor modes and random numbers change.
    """

    def __init__(self, engine: Engine, train: ClipLoader, val: ClipLoader) -> None:
        self._engine = engine
        count = min(MOST, len(train.numbers), len(val.numbers))
        options = dataclasses.replace(val.options, cache="none")
        self._clips = {loader.split: _keep(evenly(loader, count, options)) for loader in (train, val)}

    def losses(self) -> dict[str, float]:
        """`train_loss_probe` and `val_loss_probe`; all ranks call it."""
        engine = self._engine
        learned = Learned(engine.task, engine.loss, engine.labels)
        modes = [(module, module.training) for module in engine.model.modules()]
        try:
            return {
                f"{split}_loss_probe": evaluate(
                    engine.model, clips, learned, engine.dtype, engine.group, engine.accumulate
                ).loss
                for split, clips in self._clips.items()
            }
        finally:
            for module, is_training in modes:
                module.training = is_training


def evenly(loader: ClipLoader, count: int, options: LoaderOptions) -> ClipLoader:
    """A loader of so many of a loader's clips, evenly chosen and in plan order; options: the others of it."""
    chosen = loader.numbers[np.arange(count) * len(loader.numbers) // count]
    return ClipLoader(loader.shards, loader.split, **vars(options) | {"numbers": chosen, "shuffle": False})


def _keep(loader: ClipLoader) -> KeptBatches:
    try:
        return KeptBatches(loader.numbers, loader.batch_size, list(loader.batches(epoch=0)))
    finally:
        loader.close()
