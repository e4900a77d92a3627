"""The parts of a run, as one value that is passed down."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from trainer.config.settings import Settings
from trainer.data.loader import ClipLoader
from trainer.devices.distributed import Group
from trainer.engine.checkpoint import Progress
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
