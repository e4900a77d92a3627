"""The files of an evaluation: figures for programs and people, scores, plots and a page."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from shardify.storage.local import write_atomically
from shardify.storage.table import table_bytes
from trainer.evaluation.page import evaluation_page
from trainer.evaluation.predictions import prediction_rows
from trainer.evaluation.report import show
from trainer.evaluation.tables import evaluation_csv, is_one_clip_each, robustness_csv
from trainer.tasks.levels import scored_levels

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


def write_evaluation(out: Path, record: dict, scores: bytes, drawings: dict[str, Callable[[Path], None]]) -> None:
    """evaluation.json, tables, plots and evaluation.html in the folder `out`.

    scores: the content of scores.csv; drawings: of `plots_of`. What is only to look at comes last: where that cannot be
    made, a line says so.
    """
    tables = {
        "evaluation.json": (json.dumps(record, indent=1) + "\n").encode(),
        "evaluation.csv": evaluation_csv(record),
        "scores.csv": scores,
    }
    if "robustness.png" in drawings:
        tables["robustness.csv"] = robustness_csv(record)
    for name, content in tables.items():
        write_atomically(out / name, content)
    for name, draw in drawings.items():
        show(draw, out / name)
    write_atomically(out / "evaluation.html", evaluation_page(record, [out / name for name in drawings]).encode())


def plots_of(record: dict, saved: SavedModel, data_sets: list[DataSet]) -> dict[str, Callable[[Path], None]]:
    """File: what draws it; by videos where any data set has several clips of one."""
    entries, task = record["data_sets"], saved.task
    level = "clip" if all(is_one_clip_each(entry) for entry in entries.values()) else "video"
    named = {
        one.name: scored_levels(task, one.predictions, one.shards, one.rows)[level == "video"] for one in data_sets
    }
    drawings = task.comparison_plots(named, f"{level}s")
    found = {name: entry["robustness"] for name, entry in entries.items() if "robustness" in entry}
    if found:
        from trainer.evaluation.plots import plot_robustness  # importing matplotlib takes a second

        drawings["robustness.png"] = partial(plot_robustness, found, record["headline"], level)
    return drawings
