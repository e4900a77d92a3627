"""The losses of a few clips of train and of val, always the same, which say while training goes on how the two part."""

from __future__ import annotations

import dataclasses

from trainer.data.arguments import LoaderOptions, choose_members
from trainer.data.batches import KeptBatches
from trainer.data.loader import ClipLoader
from trainer.engine.engine import Engine
from trainer.engine.evaluate import Learned, evaluate
from trainer.shards.splits import choose_evenly

MOST = 64  # clips of each split: as much work as one or two training steps of 16
MOST_BYTES = 32 << 20  # of each split, fewer clips where they are large: so little is counted nowhere


class Probe:
    """Clips of train and as many of val, kept on the device, whose losses are computed by the weights in training.

    The task's draws are those of evaluation, alike on both and each time. Training goes on as if nothing had been
    computed: neither weights and statistics nor modes and random numbers change.
    """

    def __init__(self, engine: Engine, train: ClipLoader, val: ClipLoader) -> None:
        self._engine = engine
        options = dataclasses.replace(val.options, cache="none")
        clip_bytes = sum(member.num_bytes for member in choose_members(options.members, val.shards).values())
        count = min(MOST, max(1, MOST_BYTES // clip_bytes), len(train.numbers), len(val.numbers))
        self._clips = {loader.split: _keep(some_of(loader, count, options)) for loader in (train, val)}

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


def some_of(loader: ClipLoader, most: int, options: LoaderOptions) -> ClipLoader:
    """A loader of at most so many of a loader's clips, evenly chosen and in plan order; options: the others of it.

    Where damaged clips are skipped, any number of these may be: how many are too many is said of whole splits.
    """
    own = {"numbers": choose_evenly(loader.numbers, most), "shuffle": False, "max_errors": 1.0}
    return ClipLoader(loader.shards, loader.split, **vars(options) | own)


def _keep(loader: ClipLoader) -> KeptBatches:
    try:
        return KeptBatches(loader.numbers, loader.batch_size, list(loader.batches(epoch=0)))
    finally:
        loader.close()
