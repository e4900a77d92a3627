"""What a run leaves behind for people and other programs, in its results/ folder."""

from __future__ import annotations

import csv
import io
import json
import platform
from pathlib import Path

import numpy as np
import torch
import torchvision

from shardify.errors import FormatError
from shardify.index import read_rows
from trainer import plots
from trainer.checkpoint import write_atomically
from trainer.engine import Predictions
from trainer.metrics import bootstrap_intervals, classification_metrics, predict, softmax
from trainer.shards import ShardSet

HISTORY_COLUMNS = (
    "epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_balanced_accuracy",
    "val_precision", "val_recall", "val_f1", "val_auc_roc", "val_auc_pr", "epoch_seconds", "clips_per_second",
    "data_wait",
)  # fmt: skip


def split_figures(predictions: Predictions, split: str, threshold: float | None = None) -> dict:
    """The metrics of one split, with its name and number of clips."""
    figures = classification_metrics(predictions.labels, softmax(predictions.logits), threshold)
    return {"split": split, "clips": len(predictions.labels), "loss": predictions.loss, **figures}


def intervals(shards: ShardSet, predictions: Predictions, threshold: float | None) -> dict:
    """95% bootstrap intervals of the main figures, by group."""
    groups = shards.samples["group"][predictions.numbers]
    return bootstrap_intervals(predictions.labels, softmax(predictions.logits), groups, threshold)


def write_history(results: Path, rows: list[dict], metric: str) -> None:
    write_atomically(results / "training_history.csv", _csv(HISTORY_COLUMNS, rows))
    plots.plot_history(rows, metric, results / "training_history.png")


def write_results(results: Path, record: dict, shards: ShardSet, predictions: Predictions) -> None:
    """experiment_results.json, experiment_report.txt, test_predictions.csv and the plots of evaluation/."""
    scores = softmax(predictions.logits)
    table = predictions_csv(shards, predictions, scores, record["threshold"])
    write_atomically(results / "test_predictions.csv", table)
    write_atomically(results / "experiment_report.txt", report_text(record).encode())
    folder = results / "evaluation"
    chosen = predict(scores, record["threshold"])
    plots.plot_confusion(predictions.labels, chosen, shards.classes, folder / "confusion_matrix.png")
    plots.plot_curves(predictions.labels, scores, shards.classes, folder / "roc_pr_curves.png")
    plots.plot_scores(predictions.labels, scores, shards.classes, folder / "score_distribution.png")
    # last: where it is, the run is complete
    write_atomically(results / "experiment_results.json", (json.dumps(record, indent=1) + "\n").encode())


def predictions_csv(
    shards: ShardSet, predictions: Predictions, scores: np.ndarray, threshold: float | None = None
) -> bytes:
    """key, source, group, label, score, prediction; with more than two classes also every class's score.

    score: the probability of class 1 of two, else of the predicted class.
    """
    try:
        rows = {row["key"]: row for row in read_rows(shards.folder)}
    except FormatError:
        rows = {}  # samples.csv is for people; training does not need it
    many = len(shards.classes) > 2
    extra = [f"score_{name}" for name in shards.classes] if many else []
    table = []
    chosen = predict(scores, threshold).tolist()
    for number, label, score, prediction in zip(predictions.numbers, predictions.labels, scores, chosen, strict=True):
        key = shards.samples["key"][number].decode()
        row = rows.get(key, {})
        table.append(
            {
                "key": key,
                "source": row.get("source", ""),
                "group": row.get("group", ""),
                "label": int(label),
                "score": f"{score[prediction if many else 1]:.6f}",
                "prediction": prediction,
                **{name: f"{value:.6f}" for name, value in zip(extra, score, strict=False)},
            }
        )
    return _csv(("key", "source", "group", "label", "score", "prediction", *extra), table)


def report_text(record: dict) -> str:
    test, model, environ = record["test"], record["model"], record["environment"]
    what = "test" if test["split"] == "test" else "VALIDATION (there is no test split; the model was chosen on these)"
    lines = [
        f"Run {record['run']}: {record['shards']['folder']}, classes {', '.join(record['classes'])}",
        f"{model['name']} on {model['backbone']}, {model['parameters']:,} parameters, weights: {model['weights']}",
        f"{environ['device']}, {environ['precision']}, torch {environ['torch']}",
        "",
        f"best epoch {record['best_epoch']} of {record['epochs_trained']}, by validation's {record['metric']}",
        "",
        f"Final figures on {what}, {test['clips']} clips; 95% intervals by group; {_threshold_line(record)}",
        *(_figure_line(name, value, record["test_intervals"].get(name)) for name, value in figures_of(test).items()),
        "",
        f"{record['training']['clips_per_second']:.1f} clips/s, data wait {record['training']['data_wait']:.1%}, "
        f"cache {record['training']['cache']}",
        *record["notes"],
    ]
    return "\n".join(lines) + "\n"


def _threshold_line(record: dict) -> str:
    if record["threshold"] is None:
        return "the largest probability decides"
    return f"threshold {record['threshold']:.4f}, chosen on validation"


def _figure_line(name: str, value: float | None, interval: list[float] | None) -> str:
    shown = "undefined" if value is None else f"{value:.4f}"
    return f"  {name:<18} {shown}" + (f"  ({interval[0]:.4f} to {interval[1]:.4f})" if interval else "")


def figures_of(split: dict) -> dict:
    """The metrics among a split's figures."""
    return {name: value for name, value in split.items() if name not in ("split", "clips")}


def environment(device: torch.device, dtype: torch.dtype, world: int) -> dict:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return {
        "device": name if world == 1 else f"{world} × {name}",
        "precision": str(dtype).removeprefix("torch."),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }


def _csv(columns: tuple[str, ...], rows: list[dict]) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode("utf-8")
