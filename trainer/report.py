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
from trainer.metrics import classification_metrics, softmax
from trainer.shards import ShardSet

HISTORY_COLUMNS = (
    "epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_balanced_accuracy",
    "val_precision", "val_recall", "val_f1", "val_auc_roc", "val_auc_pr", "epoch_seconds", "clips_per_second",
    "data_wait",
)  # fmt: skip


def split_figures(predictions: Predictions, split: str) -> dict:
    """The metrics of one split, with its name and number of clips."""
    figures = classification_metrics(predictions.labels, softmax(predictions.logits))
    return {"split": split, "clips": len(predictions.labels), "loss": predictions.loss, **figures}


def write_history(results: Path, rows: list[dict], metric: str) -> None:
    write_atomically(results / "training_history.csv", _csv(HISTORY_COLUMNS, rows))
    plots.plot_history(rows, metric, results / "training_history.png")


def write_results(results: Path, record: dict, shards: ShardSet, predictions: Predictions) -> None:
    """experiment_results.json, experiment_report.txt, test_predictions.csv and the plots of evaluation/."""
    scores = softmax(predictions.logits)
    write_atomically(results / "test_predictions.csv", predictions_csv(shards, predictions, scores))
    write_atomically(results / "experiment_report.txt", report_text(record).encode())
    folder = results / "evaluation"
    plots.plot_confusion(predictions.labels, scores, shards.classes, folder / "confusion_matrix.png")
    plots.plot_curves(predictions.labels, scores, shards.classes, folder / "roc_pr_curves.png")
    plots.plot_scores(predictions.labels, scores, shards.classes, folder / "score_distribution.png")
    # last: where it is, the run is complete
    write_atomically(results / "experiment_results.json", (json.dumps(record, indent=1) + "\n").encode())


def predictions_csv(shards: ShardSet, predictions: Predictions, scores: np.ndarray) -> bytes:
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
    for number, label, score in zip(predictions.numbers, predictions.labels, scores, strict=True):
        key, prediction = shards.samples["key"][number].decode(), int(score.argmax())
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
        f"Final figures on {what}, {test['clips']} clips",
        *(
            f"  {name:<18}{'undefined' if value is None else f'{value:.4f}'}"
            for name, value in figures_of(test).items()
        ),
        "",
        f"{record['training']['clips_per_second']:.1f} clips/s, data wait {record['training']['data_wait']:.1%}, "
        f"cache {record['training']['cache']}",
        *record["notes"],
    ]
    return "\n".join(lines) + "\n"


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
