"""A data set and what a saved model says of it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from trainer.data.loader import ClipLoader
from trainer.devices.distributed import Group
from trainer.engine.evaluate import Learned, choose_dtype, evaluate
from trainer.evaluation.predictions import Predictions, source_rows
from trainer.saved_model import SavedModel
from trainer.shards.shard_set import ShardSet


@dataclass(frozen=True)
class DataSet:
    """A data set with the labels of a model, and what the model says of one of its splits."""

    name: str
    shards: ShardSet
    rows: dict[int, dict[str, str]]  # of samples.csv, by the clip's number
    predictions: Predictions


def score(saved: SavedModel, name: str, shards: ShardSet, split: str, group: Group) -> DataSet:
    """The data set of that name, its split scored. Raises FormatError for a damaged clip, torch.OutOfMemoryError."""
    with contextlib.closing(split_loader(saved, shards, split, group)) as loader:
        predictions = predict_split(saved, loader, group)
    return DataSet(name, shards, source_rows(shards), predictions)


def split_loader(saved: SavedModel, shards: ShardSet, split: str, group: Group, cache: str = "none") -> ClipLoader:
    """The clips of a split, in plan order."""
    data = saved.settings.data
    return ClipLoader(
        shards, split, saved.settings.batch_size, shuffle=False, device=group.device, on_error=data.on_error,
        max_errors=data.max_errors, cache=cache,
    )  # fmt: skip


def predict_split(saved: SavedModel, loader: ClipLoader, group: Group) -> Predictions:
    """The predictions of all clips of a loader."""
    settings, task = saved.settings, saved.task
    loss = task.build_loss(saved.model, saved.class_counts, group.device)
    learned, dtype = Learned(task, loss, task.labels(loader.shards)), choose_dtype(settings.amp, group.device)
    return evaluate(saved.model, loader, learned, dtype, group, settings.data, settings.accumulate)
