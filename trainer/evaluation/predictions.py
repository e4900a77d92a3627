"""Predictions over one split, and their table for people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shardify.errors import FormatError
from shardify.format.index import read_rows
from shardify.storage.table import table_bytes
from trainer.data.shard_set import ShardSet
from trainer.evaluation.metrics import predict, softmax


@dataclass(frozen=True)
class Predictions:
    """Over the clips of one split, in plan order: N clips, K classes."""

    numbers: np.ndarray  # int64 (N,)
    labels: np.ndarray  # int64 (N,); in regression the targets, float64
    logits: np.ndarray  # float32 (N, K); in regression the predicted values, K = 1
    loss: float  # mean over the clips

    @property
    def is_regression(self) -> bool:
        return self.logits.shape[1] == 1


def source_rows(shards: ShardSet) -> dict[str, dict[str, str]]:
    """key → row of samples.csv; {} without one: it is for people, training does not need it."""
    try:
        return {row["key"]: row for row in read_rows(shards.folder)}
    except FormatError:
        return {}


def predictions_csv(
    shards: ShardSet, predictions: Predictions, threshold: float | None, rows: dict[str, dict[str, str]]
) -> bytes:
    """key, source, group, label, score, prediction; with more than two classes also every class's score.

    score: the probability of class 1 of two, else of the predicted class. In regression: key, source, group, target,
    prediction. rows: of samples.csv, by key.
    """
    columns, table = ["key", "source", "group"], []
    for number in predictions.numbers:
        key = shards.samples["key"][number].decode("utf-8", "replace")
        row = rows.get(key, {})
        table.append({"key": key, "source": row.get("source", ""), "group": row.get("group", "")})
    if predictions.is_regression:
        columns += ["target", "prediction"]
        for row, target, (value,) in zip(table, predictions.labels, predictions.logits.tolist(), strict=True):
            row |= {"target": f"{target:.6g}", "prediction": f"{value:.6g}"}
        return table_bytes(columns, table)
    scores = softmax(predictions.logits)
    names = [f"score_{name}" for name in shards.classes] if len(shards.classes) > 2 else []
    columns += ["label", "score", "prediction", *names]
    chosen = predict(scores, threshold).tolist()
    for row, label, score, prediction in zip(table, predictions.labels, scores, chosen, strict=True):
        shown = score[prediction if names else 1]
        row |= {"label": int(label), "score": f"{shown:.6f}", "prediction": prediction}
        row |= {name: f"{value:.6f}" for name, value in zip(names, score, strict=False)}
    return table_bytes(columns, table)
