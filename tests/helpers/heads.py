"""Clips with a label of a second head, some of them none, and the gradients of one step on them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import torch
from numpy.lib import recfunctions

from shardify.format.index import read_index, sha256
from shardify.format.records import UNLABELLED, Head, npy_bytes
from trainer.config.load import load_settings
from trainer.devices.distributed import Group
from trainer.engine.assemble import make_engine, make_loaders, make_model
from trainer.shards.shard_set import ShardSet

SIDE = Head("side", ["left", "middle", "right"])


def labels_of_side(labels: np.ndarray) -> np.ndarray:
    """Labels of SIDE that follow from those of two classes, int (clips,), but for some; every third clip has none."""
    of_side = 2 * labels.astype(np.int16)
    of_side[::5] = 1
    of_side[::3] = UNLABELLED
    return of_side


def add_side(folder: Path) -> Path:
    """Write a folder's tables again with the head SIDE."""
    index = read_index(folder)
    payload = npy_bytes(_with_side(index.samples, index.heads[0]))
    hashes = index.meta["sha256"] | {"samples.npy": sha256(payload)}
    heads = [*index.meta["heads"], dataclasses.asdict(SIDE)]
    (folder / "samples.npy").write_bytes(payload)
    (folder / "index.json").write_text(json.dumps(index.meta | {"heads": heads, "sha256": hashes}))
    return folder


def with_side(shards: ShardSet) -> ShardSet:
    """The same clips with the head SIDE."""
    head = shards.heads[0]
    return dataclasses.replace(shards, heads=[head, SIDE], samples=_with_side(shards.samples, head))


def step_gradients(shards: ShardSet, accumulate: int, group: Group) -> tuple[list[torch.Tensor], dict[str, float]]:
    """Those of a step on eight clips, averaged over the ranks, and what it sums over them."""
    overrides = ("model.name=runs:MeanColours", "batch_size=8", "loss.heads={side: 2}", f"accumulate={accumulate}")
    settings, numbers = load_settings(None, overrides), shards.numbers("train")
    engine = make_engine(settings, shards, numbers, make_model(settings, shards, numbers, None), group)
    engine.begin_epoch(0)
    loader = make_loaders(settings, shards, {"train": numbers}, "none", group)["train"]
    added = engine.add_gradients(next(iter(loader.batches(0))), 0)
    loader.close()
    return [parameter.grad.clone() for parameter in engine.model.parameters()], engine.total(added)


def _with_side(samples: np.ndarray, head: Head) -> np.ndarray:
    labels = labels_of_side(samples[head.field])
    return recfunctions.append_fields(np.array(samples), SIDE.field, labels, "<i2", usemask=False)
