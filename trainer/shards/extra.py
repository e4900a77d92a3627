"""The folders of data.extra, whose clips join training alone: synthetic ones, for example."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from trainer.errors import SettingsError
from trainer.shards.mix import mix_shards
from trainer.shards.shard_cache import ShardCache
from trainer.shards.shard_set import ShardSet, open_shards

SHOWN = 10  # classes of a folder


def add_extra(
    shards: ShardSet,
    splits: dict[str, np.ndarray],
    names: Sequence[str],
    frames: int | None = None,
    cache: ShardCache | None = None,
) -> tuple[ShardSet, dict[str, np.ndarray], list[str]]:
    """The shards with the train clips of these folders behind theirs, the splits with these in train, and notes.

    splits: of the clips of `shards`, whose numbers stay; val and test stay as they are. frames, cache: of opening.
    Raises SettingsError where a folder has a class that `shards` has not, or no train clip; FormatError as mix_shards.
    """
    if not names:
        return shards, splits, []
    found = [open_shards(name, frames, cache) for name in names]
    notes = [_check(part, shards) for part in found]
    parts = [_train_of(part) for part in found]
    mixed = mix_shards([*(shards.parts or (shards,)), *parts])
    notes += [note for note in mixed.notes if note not in shards.notes]
    added = np.arange(len(shards.samples), len(mixed.samples))
    return mixed, {**splits, "train": np.concatenate([splits["train"], added])}, notes


def _train_of(part: ShardSet) -> ShardSet:
    """With another fingerprint: to name the folder with --shards would be another run."""
    fingerprint = f"{part.fingerprint} for training alone"
    return dataclasses.replace(part, samples=part.samples[part.numbers("train")], fingerprint=fingerprint)


def _check(part: ShardSet, shards: ShardSet) -> str:
    """What a folder brings, in words. Raises SettingsError."""
    known = {head.name: head.classes for head in shards.heads}
    for head in part.heads:
        for unknown in sorted(set(head.classes) - set(known.get(head.name, head.classes))):
            raise SettingsError(
                f"data.extra: {part.folder} has the class {unknown}, which {shards.name} has not "
                f"({', '.join(known[head.name])}); name it as there, or leave the folder out"
            )
    train = part.samples[part.numbers("train")]
    if not len(train):
        raise SettingsError(f"data.extra: {part.folder} has no train clip, and no other is trained on; leave it out")
    counts = [f"{name} {count}" for name, count in part.heads[0].count(train).items() if count]
    listed = ", ".join(counts) if len(counts) <= SHOWN else f"{len(counts)} classes"
    others = len(part.samples) - len(train)
    left_out = f"; its {others} clips of val and test are left out" if others else ""
    return f"data.extra: {len(train)} clips of {part.folder} join training ({listed}){left_out}"
