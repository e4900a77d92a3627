"""What a run leaves behind for people and other programs, in its results/ folder."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

from shardify.storage.local import write_atomically
from shardify.storage.table import table_bytes
from trainer.data.shard_set import ShardSet
from trainer.evaluation import plots
from trainer.evaluation.metrics import bootstrap_intervals, classification_metrics, predict, regression_metrics, softmax
from trainer.evaluation.predictions import Predictions, predictions_csv, source_rows
from trainer.evaluation.worst_clips import write_worst_clips

HISTORY_COLUMNS = (
    "epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_balanced_accuracy",
    "val_precision", "val_recall", "val_f1", "val_auc_roc", "val_auc_pr", "epoch_seconds", "clips_per_second",
    "data_wait",
)  # fmt: skip
VALUE_HISTORY_COLUMNS = (
    "epoch", "lr", "train_loss", "train_mae", "val_loss", "val_mae", "val_rmse", "val_r2", "val_pearson",
    "epoch_seconds", "clips_per_second", "data_wait",
)  # fmt: skip

RESULTS = ("experiment_results.json", "experiment_report.txt", "test_predictions.csv", "worst_clips.html")
EVALUATION = ("predicted_values.png", "confusion_matrix.png", "roc_pr_curves.png", "score_distribution.png")


def split_figures(predictions: Predictions, split: str, threshold: float | None = None) -> dict:
    """The metrics of one split, with its name and number of clips."""
    if predictions.is_regression:
        figures = regression_metrics(predictions.labels, predictions.logits[:, 0])
    else:
        figures = classification_metrics(predictions.labels, softmax(predictions.logits), threshold)
    return {"split": split, "clips": len(predictions.labels), "loss": predictions.loss, **figures}


def intervals(shards: ShardSet, predictions: Predictions, threshold: float | None) -> dict:
    """95% bootstrap intervals of the main figures, by group."""
    groups = shards.samples["group"][predictions.numbers]
    scores = predictions.logits if predictions.is_regression else softmax(predictions.logits)
    return bootstrap_intervals(predictions.labels, scores, groups, threshold)


def write_history(results: Path, rows: list[dict], metric: str) -> None:
    columns = VALUE_HISTORY_COLUMNS if "val_mae" in rows[0] else HISTORY_COLUMNS
    write_atomically(results / "training_history.csv", table_bytes(columns, rows))
    show(plots.plot_history, results / "training_history.png", rows=rows, metric=metric)


def remove_results(results: Path) -> bool:
    """Whether an earlier end of the run, after fewer epochs, had left what `write_results` writes."""
    pictures = [results / "evaluation" / name for name in EVALUATION]
    found = [path for path in (*(results / name for name in RESULTS), *pictures) if path.exists()]
    for path in found:
        path.unlink()
    with contextlib.suppress(OSError):  # what others have put there stays
        (results / "evaluation").rmdir()
    return bool(found)


def write_results(results: Path, record: dict, shards: ShardSet, predictions: Predictions) -> None:
    """experiment_results.json, experiment_report.txt, test_predictions.csv, worst_clips.html, plots in evaluation/.

    What is only to look at comes last: where that cannot be made, the run is complete all the same.
    """
    threshold, rows = record["threshold"], source_rows(shards)
    write_atomically(results / "test_predictions.csv", predictions_csv(shards, predictions, threshold, rows))
    write_atomically(results / "experiment_report.txt", report_text(record).encode())
    write_atomically(results / "experiment_results.json", (json.dumps(record, indent=1) + "\n").encode())
    folder, labels, classes = results / "evaluation", predictions.labels, shards.classes
    if predictions.is_regression:
        values = predictions.logits[:, 0]
        show(plots.plot_values, folder / "predicted_values.png", targets=labels, values=values)
    else:
        scores = softmax(predictions.logits)
        chosen, known = predict(scores, threshold), {"labels": labels, "classes": classes}
        show(plots.plot_confusion, folder / "confusion_matrix.png", predictions=chosen, **known)
        show(plots.plot_curves, folder / "roc_pr_curves.png", scores=scores, **known)
        show(plots.plot_scores, folder / "score_distribution.png", scores=scores, threshold=threshold, **known)
    about = {"shards": shards, "predictions": predictions, "threshold": threshold, "rows": rows}
    show(write_worst_clips, results / "worst_clips.html", **about)


def show(make: Callable[..., None], path: Path, **arguments) -> None:
    """Make a picture or page; where that fails, a line says so, and the run has its results all the same."""
    try:
        make(path=path, **arguments)
    except Exception as error:  # matplotlib and Pillow raise a dozen types
        plots.plt.close("all")
        reason = " ".join(str(error).split())
        print(f"warning: {path} could not be made ({type(error).__name__}: {reason})", file=sys.stderr, flush=True)


def report_text(record: dict) -> str:
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
        f"Final figures on {what}, {test['clips']} clips; {_intervals_line(record)};",
        _threshold_line(record),
        *(_figure_line(name, value, record["test_intervals"].get(name)) for name, value in figures_of(test).items()),
        "",
        f"{record['training']['clips_per_second']:.1f} clips/s, data wait {record['training']['data_wait']:.1%}, "
        f"cache {record['training']['cache']} ({record['training']['cache_hit_rate']:.1%} of the clips came from it)",
        *record["notes"],
    ]
    return "\n".join(lines) + "\n"


def _intervals_line(record: dict) -> str:
    if any(record["test_intervals"].values()):
        return "95% intervals by group"
    labels = "targets that differ" if "mae" in record["test"] else "clips of two classes"
    return f"no intervals (they take two groups, and {labels})"


def _threshold_line(record: dict) -> str:
    if "mae" in record["test"]:
        return "in the targets' unit"
    if record["threshold"] is None and len(record["classes"]) == 2:
        return "no threshold (validation has clips of one class), so the larger probability decides"
    if record["threshold"] is None:
        return "the largest probability decides"
    return f"threshold {record['threshold']:.4f}, chosen on validation"


def _figure_line(name: str, value: float | None, interval: list[float] | None) -> str:
    shown = "undefined" if value is None else f"{value:.4f}"
    return f"  {name:<18} {shown}" + (f"  ({interval[0]:.4f} to {interval[1]:.4f})" if interval else "")


def figures_of(split: dict) -> dict:
    """The metrics among a split's figures."""
    return {name: value for name, value in split.items() if name not in ("split", "clips")}
