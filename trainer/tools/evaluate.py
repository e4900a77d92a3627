"""Evaluation of a run's best model on one or more data sets."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shardify.errors import ShardifyError
from shardify.storage.local import check_writable, write_atomically
from trainer.errors import SettingsError, TrainerError

if TYPE_CHECKING:
    from trainer.saved_model import SavedModel
    from trainer.shards.shard_cache import ShardCache
    from trainer.shards.shard_set import ShardSet

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """What `trainer.evaluate` is asked for."""

    run: Path
    shards: tuple[Path, ...]  # the data sets
    split: str = "test"
    devices: str = "auto"
    meant: dict[str, str] = field(default_factory=dict)  # class of a data set: class of the model
    model_class: str | None = None  # of a custom model, package.module:Class
    csv: Path | None = None  # where every clip's score is written
    out: Path | None = None  # the folder of evaluation.json, its tables, plots and page
    robustness: bool = False  # also on degraded clips


def evaluate_run(request: EvaluationRequest) -> dict:
    """The content of evaluation.json: `data_sets`, by the names of their folders, and the `mean` of their figures.

    All that is wrong with the request is said before the first clip is scored. Raises ShardifyError,
    torch.OutOfMemoryError.
    """
    from trainer.devices.distributed import join_group, num_devices
    from trainer.saved_model import load_saved
    from trainer.shards.shard_cache import cache_of_saved
    from trainer.shards.shard_set import open_shards
    from trainer.tasks.levels import evaluation, mean_levels
    from trainer.tools.evaluation_files import plots_of, scores_csv, write_evaluation
    from trainer.tools.robustness import robustness
    from trainer.tools.scoring import score

    for path in filter(None, (request.csv, request.out and request.out / "evaluation.json")):
        check_writable(path)
    group = join_group(num_devices(request.devices) > 0)
    saved = load_saved(request.run, group.device, request.model_class)
    data, cache = saved.settings.data, cache_of_saved(saved.settings.data)
    opened = [open_shards(path, data.sheet_frames, cache) for path in request.shards]
    check_meant(request.meant, {name for shards in opened for name in shards.classes})
    matched = [saved.task.match_classes(shards, saved.classes, request.meant) for shards in opened]
    for shards in matched:
        check_fits(saved, shards, request.split)
    for shards in matched:
        say_other_options(saved, shards)
        say_seen_clips(request.run, shards, request.split, cache)
    thresholds, data_sets, found = saved.about(), [], {}
    for name, shards in zip(distinct_names([shards.folder for shards in matched]), matched, strict=True):
        data_set = score(saved, name, shards, request.split, group)
        data_sets.append(data_set)
        found[name] = evaluation(saved.task, data_set.predictions, request.split, shards, data_set.rows, thresholds)
        if request.robustness:
            found[name]["robustness"] = robustness(saved, data_set, request.split, group)
    record = {
        "run": request.run.resolve().name,
        "classes": saved.classes,
        "headline": saved.task.headline,
        "data_sets": found,
        "mean": mean_levels(list(found.values())),
    }
    scores = scores_csv(saved, data_sets) if request.csv or request.out else b""
    if request.csv:
        write_atomically(request.csv, scores)
    if request.out:
        write_evaluation(request.out, record, scores, plots_of(record, saved, data_sets))
    return record


def check_fits(saved: SavedModel, shards: ShardSet, split: str) -> None:
    """Raises TrainerError where there is nothing to score, or the model was trained on clips of another kind."""
    if len(shards.numbers(split)) == 0:
        raise TrainerError(f"{shards.folder}: has no {split} split; choose another with --split")
    for name, expected in (("frames", saved.stored_frames), ("size", saved.stored_size)):
        if getattr(shards, name) != expected:
            raise TrainerError(
                f"{shards.folder}: {name} is {getattr(shards, name)}, the model was trained on {expected}"
            )


def say_other_options(saved: SavedModel, shards: ShardSet) -> None:
    """Warn where the clips were made of videos in another way than those that the model was trained on."""
    from trainer.shards.shard_set import differing_options

    if other := differing_options(shards.build, saved.build):
        listed = ", ".join(f"{name} is {own} here and {model} for the model" for name, (own, model) in other.items())
        logger.warning(
            f"{shards.folder}: built with other options than the model's training clips ({listed}); build it with the "
            "same ones for figures that count"
        )


def say_seen_clips(run: Path, shards: ShardSet, split: str, cache: ShardCache) -> None:
    """Warn where clips to score are equal to train clips of the run, as far as its shards are still in their place."""
    from trainer.shards.mix import repeats_train
    from trainer.shards.shard_set import open_shards
    from trainer.tools.scoring import recorded_folders

    if split == "train" or not shards.has_crc:
        return
    trained_on = []
    with contextlib.suppress(ShardifyError):
        for folder in itertools.chain(*recorded_folders(run)):
            with contextlib.suppress(ShardifyError):  # of each that is gone
                trained_on.append(open_shards(folder, cache=cache))
    numbers = shards.numbers(split)
    seen = [repeats_train(shards, other)[numbers] for other in trained_on if other.has_crc]
    if count := np.count_nonzero(np.logical_or.reduce(seen)):
        logger.warning(
            f"{shards.folder}: {count} of {len(numbers)} clips of {split} are equal to train clips of {run}; their "
            f"figures say nothing about new videos"
        )


def check_meant(meant: dict[str, str], classes: set[str]) -> None:
    """Raises SettingsError where the user speaks of a class that no data set has."""
    for name in meant:
        if name not in classes:
            known = ", ".join(sorted(classes))
            raise SettingsError(f"--map {name}={meant[name]}: the shards have no class {name}, only {known}")


def distinct_names(folders: list[Path]) -> list[str]:
    """The names of folders, with their parents' where some are alike. Raises SettingsError for one given twice."""
    whole = [folder.resolve() for folder in folders]
    for folder, count in Counter(whole).items():
        if count > 1:
            raise SettingsError(f"--shards names {folder} {count} times; name each data set once")
    names = [folder.name for folder in whole]
    depth = 1
    while len(set(names)) < len(names):
        depth += 1
        alike = Counter(names)
        names = [
            "/".join(folder.parts[-depth:]) if alike[name] > 1 else name
            for name, folder in zip(names, whole, strict=True)
        ]
    return names
