"""The classes of other shards as those of a model: by name, by meaning, or as the user says."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from shardify.format.words import meaning_of
from trainer.errors import TrainerError
from trainer.shards.shard_set import ShardSet

logger = logging.getLogger(__name__)


def match_classes(shards: ShardSet, classes: list[str], meant: Mapping[str, str]) -> ShardSet:
    """Shards whose labels are numbers in `classes`, those of a model; it may know classes that the shards lack.

    meant: class of the shards: class of the model; it wins over the name, and the name over the meaning real or fake.
    Raises TrainerError where a class of the shards is none of the model's, or `meant` names one that it does not know.
    """
    matches = {name: _match(shards, name, classes, meant) for name in shards.classes}
    for name, match in matches.items():
        if name != match:
            logger.info(f"{shards.folder}: class {name} is {match} of the model")
    if missing := [name for name in classes if name not in matches.values()]:
        logger.warning(
            f"{shards.folder} has no class {', '.join(missing)}, which the model knows; figures that "
            "compare classes (AUC) are undefined where there is only one"
        )
    samples, head = np.array(shards.samples), shards.heads[0]
    samples[head.field] = np.array([classes.index(matches[name]) for name in shards.classes])[shards.labels]
    return replace(shards, heads=[replace(head, classes=classes), *shards.heads[1:]], samples=samples)


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
