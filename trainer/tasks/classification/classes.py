"""The classes of other shards as those of a model: by name, by meaning, or as the user says."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from shardify.format.records import UNLABELLED
from shardify.format.words import meaning_of
from trainer.errors import TrainerError
from trainer.shards.shard_set import ShardSet

logger = logging.getLogger(__name__)


def match_classes(shards: ShardSet, classes: list[str], meant: Mapping[str, str], field: str | None = None) -> ShardSet:
    """Shards whose labels are numbers in `classes`, those of a model; it may know classes that the shards lack.

    meant: class of the shards: class of the model; it wins over the name, and the name over the meaning real or fake.
    field: of samples.npy, that of the head whose labels they are; None: of the primary one. Raises TrainerError where a
    class of the shards is none of the model's, `meant` names one that it does not know, or there is no such head.
    """
    head = next((head for head in shards.heads if head.field == (field or shards.heads[0].field)), None)
    if head is None:
        raise TrainerError(
            f"{shards.folder}: its clips have no {field.removeprefix('label_')} label, which the model has learned; "
            f"build shards with a column label.{field.removeprefix('label_')}, if only of empty cells"
        )
    matches = {name: _match(shards, name, classes, meant) for name in head.classes}
    for name, match in matches.items():
        if name != match:
            logger.info(f"{shards.folder}: class {name} is {match} of the model")
    if missing := [name for name in classes if name not in matches.values()]:
        logger.warning(
            f"{shards.folder} has no class {', '.join(missing)}, which the model knows; figures that "
            "compare classes (AUC) are undefined where there is only one"
        )
    samples = np.array(shards.samples)
    index = np.array([*(classes.index(matches[name]) for name in head.classes), UNLABELLED])  # -1 finds the last one
    samples[head.field] = index[samples[head.field]]
    heads = [replace(each, classes=classes) if each is head else each for each in shards.heads]
    return replace(shards, heads=heads, samples=samples)


def _match(shards: ShardSet, name: str, classes: list[str], meant: Mapping[str, str]) -> str:
    if name in meant:
        if meant[name] not in classes:
            raise TrainerError(f"--map {name}={meant[name]}: the model has no such class, only {', '.join(classes)}")
        return meant[name]
    alike = [own for own in classes if meaning_of(own) == meaning_of(name)] if meaning_of(name) else []
    if name in classes:
        return name
    if len(alike) == 1:
        return alike[0]
    raise TrainerError(
        f"{shards.folder}: class {name} is none of the model's ({', '.join(classes)}); say which one it is with "
        f"--map {name}={classes[-1]}"
    )
