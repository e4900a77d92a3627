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
from trainer.evaluation.predictions import Predictions, ReportPart, predictions_csv, source_rows
from trainer.evaluation.worst_clips import write_worst_clips
from trainer.shards.shard_set import ShardSet

logger = logging.getLogger(__name__)

TIMES = ("epoch_seconds", "clips_per_second", "data_wait")  # the history's last columns
RESULTS = ("experiment_results.json", "experiment_report.txt", "test_predictions.csv", "worst_clips.html")


def write_history(results: Path, rows: list[dict], columns: list[str], curves: list[str], limits: tuple | None) -> None:
    """training_history.csv, a row per epoch, and its plot.

    columns: the figures among a row's values; curves: those that are drawn beside the losses; limits: of their axis.
    """
    from trainer.evaluation import plots  # and with it matplotlib, in the processes that draw

    write_atomically(results / "training_history.csv", table_bytes(["epoch", "lr", *columns, *TIMES], rows))
    show(partial(plots.plot_history, rows, curves, limits), results / "training_history.png")


def remove_results(results: Path, pictures: Iterable[str]) -> bool:
    """Whether an earlier end of the run, after fewer epochs, had left what `write_results` writes."""
    written = [results / name for name in RESULTS] + [results / "evaluation" / name for name in pictures]
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
    rows = source_rows(shards)
    write_atomically(results / "test_predictions.csv", predictions_csv(shards, predictions.numbers, part, rows))
    write_atomically(results / "experiment_report.txt", report_text(record, part).encode())
    write_atomically(results / "experiment_results.json", (json.dumps(record, indent=1) + "\n").encode())
    for name, draw in part.plots.items():
        show(draw, results / "evaluation" / name)
    show(partial(write_worst_clips, shards, predictions.numbers, part.worst, rows), results / "worst_clips.html")


def show(make: Callable[[Path], None], path: Path) -> None:
    """Make a picture or page; where that fails, a line says so, and the run has its results all the same."""
    try:
        make(path)
    except Exception as error:  # matplotlib and Pillow raise a dozen types
        from trainer.evaluation import plots

        plots.plt.close("all")
        reason = " ".join(str(error).split())
        logger.warning(f"{path} could not be made ({type(error).__name__}: {reason})")


def report_text(record: dict, part: ReportPart) -> str:
    test, model, environ = record["test"], record["model"], record["environment"]
    what = "test" if test["split"] == "test" else "VALIDATION (there is no test split; the model was chosen on these)"
    lines = [
        f"Run {record['run']}: {record['shards']['folder']}, classes {', '.join(record['classes'])}",
        f"{model['name']}{f' on {name}' if (name := model['backbone']) else ''}, {model['parameters']:,} parameters, "
        f"weights: {model['weights']}",
        f"{environ['device']}, {environ['precision']}, torch {environ['torch']}",
        "",
        f"best epoch {record['best_epoch']} of {record['epochs_trained']}, by validation's {record['metric']}",
        "",
        f"Final figures on {what}, {test['clips']} clips; {_intervals_line(record, part)};",
        part.decision,
        *(_figure_line(name, value, record["test_intervals"].get(name)) for name, value in figures_of(test).items()),
        "",
        f"{record['training']['clips_per_second']:.1f} clips/s, data wait {record['training']['data_wait']:.1%}, "
        f"cache {record['training']['cache']} ({record['training']['cache_hit_rate']:.1%} of the clips came from it)",
        *record["notes"],
    ]
    return "\n".join(lines) + "\n"


def _intervals_line(record: dict, part: ReportPart) -> str:
    if any(record["test_intervals"].values()):
        return "95% intervals by group"
    return f"no intervals (they take two groups, and {part.intervals_need})"


def _figure_line(name: str, value: float | None, interval: list[float] | None) -> str:
    shown = "undefined" if value is None else f"{value:.4f}"
    return f"  {name:<18} {shown}" + (f"  ({interval[0]:.4f} to {interval[1]:.4f})" if interval else "")


def figures_of(split: dict) -> dict:
    """The metrics among a split's figures."""
    return {name: value for name, value in split.items() if name not in ("split", "clips")}
