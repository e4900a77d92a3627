"""Predictions over one split, what a task adds to the report on them, and their table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from shardify.errors import FormatError
from shardify.format.index import read_rows
from shardify.storage.table import table_bytes
from trainer.data.shard_set import ShardSet


@dataclass(frozen=True)
class Predictions:
    """The predictions of the clips of one split, in plan order: N clips, K outputs of the model."""

    numbers: np.ndarray  # int64 (N,)
    labels: np.ndarray  # int64 or float64 (N,): what is to be predicted
    outputs: np.ndarray  # float32 (N, K)
    loss: float  # mean over the clips


@dataclass(frozen=True)
class Ranking:
    """The ranking of clips by how wrong their predictions are, each by its place among N predictions."""

    order: np.ndarray  # int (N,): places, the worst first
    shares: np.ndarray  # float (N,): how wrong, from 0 to 1
    caption: Callable[[int], str]  # of a place, as HTML
    summary: str


@dataclass(frozen=True)
class ReportPart:
    """What a task adds to the report on its predictions."""

    table: list[dict[str, object]]  # a row per clip: its label, score and prediction, as they are written
    decision: str  # a line: how outputs became predictions
    intervals_need: str  # what intervals take, beside two groups
    plots: dict[str, Callable[..., None]]  # file in evaluation/: what draws it there, with a `caption`
    worst: Ranking
    baseline: str = ""  # a line: what is reached without any learning
    meanings: dict[str, str] = field(default_factory=dict)  # figure: what it means, where few know


def source_rows(shards: ShardSet) -> dict[str, dict[str, str]]:
    """The rows of samples.csv by key; {} without one: it is for people, training does not need it."""
    try:
        return {row["key"]: row for row in read_rows(shards.folder)}
    except FormatError:
        return {}


def predictions_csv(shards: ShardSet, numbers: np.ndarray, part: ReportPart, rows: dict[str, dict[str, str]]) -> bytes:
    """key, source and group of each clip, and the columns of the task's table.

    rows: of samples.csv, by key.
    """
    whole = []
    for number, own in zip(numbers, part.table, strict=True):
        key = shards.samples["key"][number].decode("utf-8", "replace")
        row = rows.get(key, {})
        whole.append({"key": key, "source": row.get("source", ""), "group": row.get("group", ""), **own})
    return table_bytes(list(whole[0]), whole)
