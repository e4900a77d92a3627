"""The files of an evaluation: figures for programs and people, and scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from shardify.storage.local import write_atomically
from shardify.storage.table import table_bytes
from trainer.evaluation.predictions import prediction_rows
from trainer.evaluation.tables import evaluation_csv

if TYPE_CHECKING:
    from trainer.saved_model import SavedModel
    from trainer.tools.scoring import DataSet


def scores_csv(saved: SavedModel, data_sets: list[DataSet]) -> bytes:
    """Every clip's score, as in a run's test_predictions.csv; of several data sets with their names before."""
    rows = []
    for one in data_sets:
        part = saved.task.report(one.predictions, saved.classes, saved.threshold)
        named = {"data_set": one.name} if len(data_sets) > 1 else {}
        rows += [named | row for row in prediction_rows(one.shards, one.predictions.numbers, part, one.rows)]
    return table_bytes(list(rows[0]), rows)


def write_evaluation(out: Path, record: dict, saved: SavedModel, data_sets: list[DataSet]) -> None:
    """evaluation.json, evaluation.csv and scores.csv in the folder `out`."""
    write_atomically(out / "evaluation.json", (json.dumps(record, indent=1) + "\n").encode())
    write_atomically(out / "evaluation.csv", evaluation_csv(record))
    write_atomically(out / "scores.csv", scores_csv(saved, data_sets))
