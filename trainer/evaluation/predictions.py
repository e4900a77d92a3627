"""Predictions over one split, what a task adds to the report on them, and their table."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from shardify.errors import FormatError
from shardify.format.index import read_rows
from shardify.storage.table import table_bytes
from trainer.evaluation.metrics import mean_by_video
from trainer.shards.shard_set import ShardSet


@dataclass(frozen=True)
class Predictions:
    """The predictions of the clips of one split, in plan order: N clips, K outputs of the model."""

    numbers: np.ndarray  # int64 (N,)
    labels: np.ndarray  # int64 or float64 (N,): what is to be predicted
    outputs: np.ndarray  # float32 (N, K)
    loss: float  # mean over the clips


@dataclass(frozen=True)
class Scored:
    """Scores of clips or of videos, and what is known of them: N items, K scores of each."""

    labels: np.ndarray  # int64 or float64 (N,)
    scores: np.ndarray  # float64 (N, K): probabilities, in regression values
    groups: np.ndarray  # int (N,): what is resampled as a whole
    kinds: np.ndarray  # str (N,): what made a fake, "" where that is unknown

    def of(self, chosen: np.ndarray) -> Scored:
        """Those at these places, bool (N,)."""
        return Scored(*(getattr(self, name)[chosen] for name in ("labels", "scores", "groups", "kinds")))

    def by_video(self, videos: np.ndarray) -> Scored:
        """The videos whose clips these are, each scored by their mean; videos: which one each clip comes from, (N,)."""
        first = np.unique(videos, return_index=True)[1]
        return Scored(*mean_by_video(videos, self.labels, self.scores), self.groups[first], self.kinds[first])


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


def source_rows(shards: ShardSet) -> dict[int, dict[str, str]]:
    """The rows of samples.csv by the clips' numbers; without one nothing: it is for people, training needs none."""
    rows, first = {}, 0
    for part in shards.parts or (shards,):
        with contextlib.suppress(FormatError):
            by_key = {row["key"].encode(): row for row in read_rows(part.tables)}
            keys = enumerate(part.samples["key"].tolist(), first)
            rows |= {number: by_key[key] for number, key in keys if key in by_key}
        first += len(part.samples)
    return rows


def prediction_rows(
    shards: ShardSet, numbers: np.ndarray, part: ReportPart, rows: dict[int, dict[str, str]]
) -> list[dict[str, object]]:
    """key, source and group of each clip, has_NAME of the members that it may lack, and the task's own columns.

    rows: of samples.csv, by the clips' numbers.
    """
    whole, names = [], [name for name in shards.members if f"{name}_present" in shards.samples.dtype.names]
    for number, own in zip(numbers, part.table, strict=True):
        key, row = shards.key(number), rows.get(int(number), {})
        has = {f"has_{name}": bool(shards.samples[f"{name}_present"][number]) for name in names}
        whole.append({"key": key, "source": row.get("source", ""), "group": row.get("group", ""), **has, **own})
    return whole


def predictions_csv(shards: ShardSet, numbers: np.ndarray, part: ReportPart, rows: dict[int, dict[str, str]]) -> bytes:
    """The table of `prediction_rows`."""
    whole = prediction_rows(shards, numbers, part, rows)
    return table_bytes(list(whole[0]), whole)
