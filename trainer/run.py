"""The parts of a run, as one value that is passed down."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from trainer.config.settings import Settings
from trainer.data.loader import ClipLoader
from trainer.devices.distributed import Group
from trainer.engine.checkpoint import Progress, save_state
from trainer.engine.engine import Engine
from trainer.engine.probe import Probe
from trainer.shards.shard_set import ShardSet
from trainer.tasks.base import Task

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


@dataclass
class Run:
    """The parts of one run, made once and passed down."""

    settings: Settings
    shards: ShardSet
    loaders: dict[str, ClipLoader]  # by split; val is always there, test where the shards have it
    model: nn.Module
    engine: Engine
    group: Group
    out: Path
    progress: Progress
    notes: list[str]
    compared: ClipLoader | None = None  # clips of train, as many as val's, where the task evaluates them beside those
    probe: Probe | None = None  # of a run that counts in steps, where the task has such a loader
    events: SummaryWriter | None = None  # TensorBoard's, on the main rank where it is wanted

    @property
    def task(self) -> Task:
        return self.engine.task

    @property
    def is_over(self) -> bool:
        """Whether all epochs are trained, or validation has not improved for long enough."""
        progress, patience = self.progress, self.settings.early_stopping
        if patience and progress.epoch - progress.best_epoch >= patience:
            return True
        return progress.epoch >= self.settings.rounds

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step; where parts of the model have their own, that of the head."""
        return self.engine.optimizer.param_groups[0]["lr"]

    def save(self) -> None:
        """Write a checkpoint of where `progress` stands, on the main rank; every rank calls it."""
        with self.group.failing_together():
            steps = len(self.loaders["train"])
            save_state(self.engine, self.progress, steps, self.out, self.shards.fingerprint)
