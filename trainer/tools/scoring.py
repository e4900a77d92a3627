"""A data set and what a saved model says of it."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

from shardify.errors import UsageError
from shardify.storage.address import place_of
from trainer.data.loader import ClipLoader
from trainer.devices.distributed import Group
from trainer.engine.evaluate import Learned, choose_dtype, evaluate
from trainer.errors import SettingsError
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
        shards, split, saved.settings.batch_size, members=saved.task.read_members(shards), shuffle=False,
        device=group.device, on_error=data.on_error, max_errors=data.max_errors, cache=cache,
    )  # fmt: skip


def folders_of(run: Path, given: tuple[Path, ...]) -> tuple[Path, ...]:
    """The shards that the user has given, else those that the run was trained on.

    Raises SettingsError where these are not there, or are not known.
    """
    if given:
        return given
    folders, _ = recorded_folders(run)
    if missing := [folder for folder in folders if isinstance(folder, Path) and not folder.exists()]:
        raise SettingsError(f"{missing[0]}: is not there, and {run} was trained on it; pass its place with --shards")
    return folders


def recorded_folders(run: Path) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """The shards that a run was trained on, and those of its data.extra. Raises SettingsError where it does not say."""
    try:
        shards = json.loads((run / "results" / "experiment_results.json").read_text(encoding="utf-8"))["shards"]
        folders = tuple(map(place_of, shards["folders"]))
        extra = tuple(place_of(joined["folder"]) for joined in shards.get("extra", ()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
        raise SettingsError(f"{run}: does not say on which shards it was trained; pass them with --shards") from error
    return folders, extra


def predict_split(saved: SavedModel, loader: ClipLoader, group: Group) -> Predictions:
    """The predictions of all clips of a loader."""
    settings, task = saved.settings, saved.task
    loss = task.build_loss(saved.model, saved.class_counts, group.device)
    learned, dtype = Learned(task, loss, task.labels(loader.shards)), choose_dtype(settings.amp, group.device)
    return evaluate(saved.model, loader, learned, dtype, group, settings.accumulate)
