"""The files that a run leaves for people and other programs, in its results/ folder."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from shardify.storage.local import write_atomically
from shardify.storage.table import table_bytes
from shardify.text import table_lines
from trainer.evaluation.predictions import Predictions, ReportPart, predictions_csv, source_rows
from trainer.evaluation.tables import calibration_note
from trainer.evaluation.worst_clips import write_worst_clips
from trainer.shards.shard_set import ShardSet

logger = logging.getLogger(__name__)

TIMES = ("epoch_seconds", "clips_per_second", "data_wait")  # the history's last columns
RESULTS = ("experiment_results.json", "experiment_report.txt", "test_predictions.csv", "worst_clips.html")


def write_history(
    results: Path, rows: list[dict], columns: list[str], curves: list[str], limits: tuple | None, best_epoch: int
) -> None:
    """training_history.csv, a row per epoch, and its plot.

    columns: the figures among a row's values; curves: those that are drawn beside the losses; limits: of their axis.
    """
    from trainer.evaluation.plots import plot_history  # importing matplotlib takes a second

    first = ["epoch", *(["step"] if "step" in rows[0] else []), "lr"]
    write_atomically(results / "training_history.csv", table_bytes([*first, *columns, *TIMES], rows))
    show(partial(plot_history, rows, curves, limits, best_epoch), results / "training_history.png")


def remove_results(results: Path, pictures: Iterable[str], further: Iterable[str] = ()) -> bool:
    """Whether an earlier end of the run, after fewer epochs, had left what `write_results` writes, or further files."""
    written = [results / name for name in (*RESULTS, *further)] + [results / "evaluation" / name for name in pictures]
    found = [path for path in written if path.exists()]
    for path in found:
        path.unlink()
    with contextlib.suppress(OSError):  # what others have put there stays
        (results / "evaluation").rmdir()
    return bool(found)


def write_results(results: Path, record: dict, shards: ShardSet, predictions: Predictions, part: ReportPart) -> None:
    """experiment_results.json, experiment_report.txt, test_predictions.csv, worst_clips.html, plots in evaluation/.

    What is only to look at comes last: where that cannot be made, the run is complete all the same.
    """
    rows, caption = source_rows(shards), caption_of(record)
    write_atomically(results / "test_predictions.csv", predictions_csv(shards, predictions.numbers, part, rows))
    write_atomically(results / "experiment_report.txt", report_text(record, part).encode())
    write_atomically(results / "experiment_results.json", (json.dumps(record, indent=1) + "\n").encode())
    for name, draw in part.plots.items():
        show(partial(draw, caption=caption), results / "evaluation" / name)
    draw = partial(write_worst_clips, shards, predictions.numbers, part.worst, rows, caption=caption)
    show(draw, results / "worst_clips.html")


def write_losses(results: Path, record: dict) -> None:
    """experiment_results.json and experiment_report.txt of a model that has losses and predicts nothing."""
    test, validation = record["test"], record["validation"]
    lines = [
        *_head_lines(record),
        f"loss on {test['split']}, {test['clips']:,} clips: {test['loss']:.5f}",
        *([f"loss on val, {validation['clips']:,} clips: {validation['loss']:.5f}"] if test != validation else []),
        "",
        *_speed_lines(record),
    ]
    write_atomically(results / "experiment_report.txt", ("\n".join(lines) + "\n").encode())
    write_atomically(results / "experiment_results.json", (json.dumps(record, indent=1) + "\n").encode())


def show(make: Callable[[Path], None], path: Path) -> None:
    """Make a picture or page; where that fails, a line says so, and the run has its results all the same."""
    try:
        make(path)
    except Exception as error:  # matplotlib and Pillow raise a dozen types
        reason = " ".join(str(error).split())
        logger.warning(f"{path} could not be made ({type(error).__name__}: {reason})")


def caption_of(record: dict) -> str:
    """What was evaluated, and by which threshold."""
    test, threshold = record["test"], record["threshold"]
    split = "test" if test["split"] == "test" else "validation (there is no test split)"
    return f"{split}, {test['clips']:,} clips" + ("" if threshold is None else f", threshold {threshold:.3f}")


def report_text(record: dict, part: ReportPart) -> str:
    test = record["test"]
    what = "test" if test["split"] == "test" else "VALIDATION (there is no test split; the model was chosen on these)"
    lines = [
        *_head_lines(record),
        f"Final figures on {what}, {test['clips']:,} clips; {_intervals_line(record, part)};",
        part.decision,
        *_figure_lines(record, part),
        *filter(None, [calibration_note(record["evaluation"])]),
        "",
        *_class_lines(record),
        "",
        *_speed_lines(record),
    ]
    return "\n".join(lines) + "\n"


def _head_lines(record: dict) -> list[str]:
    """What was trained, and which model is the best."""
    model, environ = record["model"], record["environment"]
    best = f"epoch {record['best_epoch']} of {record['epochs_trained']}"
    if "best_step" in record:
        best = f"step {record['best_step']} of {record['settings']['steps']}"
    return [
        f"Run {record['run']}: {record['shards']['folder']}, {classes_in_words(record['heads'])}",
        f"{model['described']}, {model['parameters']:,} parameters, weights: {model['weights']}",
        f"{environ['device']}, {environ['precision']}, torch {environ['torch']}",
        "",
        f"best {best}, by validation's {record['metric']}",
        "",
    ]


def _speed_lines(record: dict) -> list[str]:
    training = record["training"]
    return [
        f"{training['clips_per_second']:.1f} clips/s, data wait {training['data_wait']:.1%}, "
        f"cache {training['cache']} ({training['cache_hit_rate']:.1%} of the clips came from it)",
        *record["notes"],
    ]


def classes_in_words(heads: dict[str, list[str]]) -> str:
    """The classes of one head or of several, for people."""
    if len(heads) == 1:
        return f"classes {', '.join(*heads.values())}"
    return "heads " + "; ".join(f"{name}: {', '.join(classes)}" for name, classes in heads.items())


def _intervals_line(record: dict, part: ReportPart) -> str:
    if any(record["test_intervals"].values()):
        return "95% intervals by group"
    return f"no intervals (they take two groups, and {part.intervals_need})"


def _levels(record: dict) -> dict[str, dict[str, dict]]:
    """The figures with their intervals per clip, and per video where these are others."""
    clip, video = (record["evaluation"][level] for level in ("clip", "video"))
    return {"clip": clip} if clip == video else {"clip": clip, "video": video}


def _figure_lines(record: dict, part: ReportPart) -> list[str]:
    """A table of the figures, those of each kind, what is reached without learning, and what rare figures mean."""
    levels = _levels(record)
    names = dict.fromkeys(name for figures in levels.values() for name in figures)
    head = [["", *(cell for level in levels for cell in (f"per {level}", ""))]]
    rows = [[name, *(cell for own in levels.values() for cell in _cells(own.get(name)))] for name in names]
    kinds = record["evaluation"]["kinds"]
    first = next(iter(names))
    of_kinds = [
        [f"{first} of {kind}", *(cell for level in levels for cell in _cells(own[level].get(first)))]
        for kind, own in kinds.items()
    ]
    return [
        *table_lines([*(head if len(levels) > 1 else []), *rows, *of_kinds]),
        *(["each video has one clip: figures per video are the same"] if len(levels) == 1 else []),
        *([part.baseline] if part.baseline else []),
        *(f"{name}: {meaning}" for name, meaning in part.meanings.items() if name in names),
    ]


def _cells(figure: dict | None) -> tuple[str, str]:
    """A figure's value and interval, None for one that a level does not have."""
    if figure is None:
        return "", ""
    interval = figure["interval"]
    return _shown(figure["value"]), f"({interval[0]:.4f} to {interval[1]:.4f})" if interval else ""


def _class_lines(record: dict) -> list[str]:
    """A table of the classes: clips in each split, and each class's figures where the record has them."""
    counts = record["shards"]["clips_per_class"]
    figures = record["evaluation"]["classes"]
    names = list(dict.fromkeys(name for own in figures.values() for name in own if name != "clips"))
    head = ["class", *(f"{split} clips" for split in counts), *names]
    rows = [
        [name, *(f"{own[name]:,}" for own in counts.values()), *(_shown(figures[name][figure]) for figure in names)]
        for name in figures or record["classes"]
    ]
    return table_lines([head, *rows])


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def figures_of(split: dict) -> dict:
    """The metrics among a split's figures, those of a head as HEAD.NAME."""
    own = {name: value for name, value in split.items() if name not in ("split", "clips", "heads")}
    of_heads = split.get("heads", {}).items()
    return own | {f"{head}.{name}": value for head, figures in of_heads for name, value in figures.items()}
