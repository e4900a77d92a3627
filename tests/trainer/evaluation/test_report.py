"""Tables and pictures of a run, also where there is little to show."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from trainer.config.load import load_settings
from trainer.evaluation import plots, report
from trainer.evaluation.predictions import Predictions, Scored, predictions_csv, source_rows
from trainer.shards.shard_set import open_shards
from trainer.tasks import task_of

CLASSES, VALUES = (task_of(load_settings(None, (f"loss.name={loss}",))) for loss in ("cross_entropy", "mse"))


@pytest.fixture
def predictions(shards_folder):
    shards = open_shards(shards_folder)
    numbers = shards.numbers("test")
    logits = np.random.default_rng(0).normal(size=(len(numbers), 2)).astype(np.float32)
    return shards, Predictions(numbers, shards.labels[numbers].astype(np.int64), logits, 0.7)


def csv_of(task, shards, found, threshold=None, rows=None):
    table = predictions_csv(shards, found.numbers, task.report(found, shards.classes, threshold), rows or {})
    return list(csv.DictReader(io.StringIO(table.decode())))


def test_a_row_per_clip(predictions):
    shards, found = predictions
    rows = csv_of(CLASSES, shards, found, None, source_rows(shards))
    assert list(rows[0]) == ["key", "source", "group", "label", "score", "prediction"]
    for row, logits in zip(rows, found.outputs, strict=True):
        assert float(row["score"]) == pytest.approx(1 / (1 + np.exp(logits[0] - logits[1])), abs=1e-6)
        assert int(row["prediction"]) == logits.argmax()


def test_the_threshold_decides(predictions):
    shards, found = predictions
    assert {row["prediction"] for row in csv_of(CLASSES, shards, found, 0.0)} == {"1"}


def test_names_are_no_formulas_and_numbers_stay(predictions):
    shards, found = predictions
    names = {"source": "=HYPERLINK(1)", "group": "-2+3"}
    values = Predictions(found.numbers, np.full(len(found.labels), -0.5), found.outputs[:, :1], found.loss)
    rows = {int(number): names for number in found.numbers}
    for row in csv_of(VALUES, shards, values, None, rows):
        assert (row["source"], row["group"], row["target"]) == ("'=HYPERLINK(1)", "'-2+3", "-0.5")
        assert float(row["prediction"]) < 9


def test_without_samples_csv_the_keys_remain(predictions, own_shards):
    _, found = predictions
    (own_shards / "samples.csv").unlink()
    shards = open_shards(own_shards)
    rows = csv_of(CLASSES, shards, found, None, source_rows(shards))
    assert len(rows) == 8
    assert {row["source"] for row in rows} == {""}
    assert all(row["key"] for row in rows)


def row(epoch, task=CLASSES, **changes):
    return dict.fromkeys((*task.history_columns(), "lr", *report.TIMES), 0.5) | {"epoch": epoch} | changes


def write_history(task, folder, rows, metric):
    columns, curves = task.history_columns(), task.history_curves(metric)
    report.write_history(folder, rows, columns, curves, task.metric_limits, 1)


@pytest.mark.parametrize(
    ("rows", "metric"),
    [([row(1)], "loss"), ([row(1), row(2, val_auc_roc=None)], "auc_roc")],
    ids=["one", "undefined"],
)
def test_history(tmp_path, rows, metric):
    write_history(CLASSES, tmp_path, rows, metric)
    with (tmp_path / "training_history.csv").open() as file:
        read = list(csv.DictReader(file))
    assert [int(each["epoch"]) for each in read] == [each["epoch"] for each in rows]
    assert read[-1]["val_auc_roc"] == ("" if len(rows) == 2 else "0.5")
    assert Image.open(tmp_path / "training_history.png").size[0] > 1000


def test_results_are_there_whatever_becomes_of_the_pictures(predictions, tmp_path, caplog):
    shards, found = predictions
    (tmp_path / "evaluation").write_text("where the pictures' folder should be")
    (tmp_path / "worst_clips.html").mkdir()
    record = record_of(threshold=None)
    report.write_results(tmp_path, record, shards, found, CLASSES.report(found, shards.classes, None))
    assert json.loads((tmp_path / "experiment_results.json").read_text()) == record
    assert (tmp_path / "experiment_report.txt").is_file() and (tmp_path / "test_predictions.csv").is_file()
    assert len(caplog.messages) == 4 and all("could not be made (" in message for message in caplog.messages)
    assert report.remove_results(tmp_path / "empty", CLASSES.plots) is False


def evaluation(**figures):
    """Of videos with a clip each; figures: value and interval by name."""
    clip = {name: {"value": value, "interval": interval} for name, (value, interval) in figures.items()}
    return {"clip": clip, "video": clip, "kinds": {}, "classes": {}, "calibration": {}}


def record_of(**changes):
    return {
        "run": "run", "classes": ["a", "b"], "heads": {"class": ["a", "b"]},
        "test": {"split": "test", "clips": 9, "loss": 0.5},
        "evaluation": evaluation(accuracy=(0.75, [0.5, 0.875]), recall=(None, None)),
        "shards": {"folder": "shards", "clips_per_class": {
            "train": {"a": 1500, "b": 20, "c": 3}, "test": {"a": 5, "b": 4, "c": 0},
        }},
        "model": {"name": "m", "described": "m on tiny", "parameters": 5, "weights": "random"},
        "environment": {"device": "CPU", "precision": "float32", "torch": "2"}, "best_epoch": 3, "epochs_trained": 4,
        "metric": "loss", "threshold": 0.25, "test_intervals": {"accuracy": [0.5, 0.875]}, "notes": ["val has none"],
        "training": {"clips_per_second": 1.0, "data_wait": 0.0, "cache": "ram", "cache_hit_rate": 0.0},
    } | changes  # fmt: skip


def text_of(task=CLASSES, **changes):
    record = record_of(**changes)
    outputs = np.zeros((2, len(record["classes"])), np.float32)
    part = task.report(
        Predictions(np.arange(2), np.zeros(2, int), outputs, 0.5), record["classes"], record["threshold"]
    )
    return report.report_text(record, part)


def test_the_report_says_how_it_was_decided_and_what_is_undefined():
    text = text_of()
    assert "95% intervals by group;\nthreshold 0.2500, chosen on validation" in text
    assert "  accuracy     0.7500  (0.5000 to 0.8750)\n" in text and "  recall    undefined\n" in text
    alone = text_of(threshold=None, test_intervals={"accuracy": None})
    undecided = "no threshold (validation has clips of one class), so the larger probability decides"
    assert f"no intervals (they take two groups, and clips of two classes);\n{undecided}" in alone
    assert "by group;\nthe largest probability decides\n" in text_of(threshold=None, classes=["a", "b", "c"])
    values = text_of(VALUES, evaluation=evaluation(mae=(2.0, None)), test_intervals={"mae": None}, threshold=None)
    assert "no intervals (they take two groups, and targets that differ);\nin the targets' unit" in values


def test_the_report_explains_and_counts():
    text = text_of()
    assert "majority baseline: always predicting a has accuracy 1.0000 and balanced accuracy 1.0000" in text
    assert "eer: equal" not in text, "a figure that is not there is not explained"
    assert "\neer: equal error rate, " in text_of(evaluation=evaluation(eer=(0.25, None)))
    assert "  class  train clips  test clips\n  a            1,500           5\n" in text
    labels = np.repeat([0, 1, 2], [7, 2, 1])
    part = CLASSES.report(Predictions(np.arange(10), labels, np.zeros((10, 3)), 0.5), ["a", "b", "c"], None)
    assert "always predicting a has accuracy 0.7000 and balanced accuracy 0.3333" in part.baseline


def test_figures_per_video_and_per_class_stand_beside_those_per_clip():
    clip = {"auc": {"value": 0.75, "interval": [0.5, 1.0]}, "eer": {"value": None, "interval": None}}
    video = {"auc": {"value": 0.875, "interval": None}, "eer": {"value": 0.25, "interval": None}}
    classes = {name: {"precision": 0.5, "recall": 0.25, "f1": None, "clips": 9} for name in "ab"}
    kinds = {"swap": {"clip": clip, "video": video}}
    calibration = {"temperature": 2.5, "is_applied": False}
    calibration |= {name: {"brier": 0.25, "calibration_error": 0.125} for name in ("before", "after")}
    found = {"clip": clip, "video": video, "classes": classes, "kinds": kinds, "calibration": calibration}
    text = text_of(evaluation=found)
    lines = [" ".join(line.split()) for line in text.splitlines() if line.startswith("  ")]
    assert lines[:4] == [
        "per clip per video", "auc 0.7500 (0.5000 to 1.0000) 0.8750", "eer undefined 0.2500",
        "auc of swap 0.7500 (0.5000 to 1.0000) 0.8750",
    ]  # fmt: skip
    assert "a 1,500 5 0.5000 0.2500 undefined" in lines
    both = "Brier score 0.2500, calibration error 0.1250"
    assert f"\ntemperature 2.500, fitted on validation (not applied: train with calibrate=true): {both} before" in text
    unfitted = found | {"video": clip, "kinds": {}, "calibration": calibration | {"temperature": 1.0}}
    once = text_of(evaluation=unfitted)
    assert "\ntemperature 1 (validation gave none: it lacks a class, " in once and f"chance): {both}\n" in once
    assert "each video has one clip: " in once and once.count("0.7500") == 1


def test_regression(predictions, tmp_path):
    shards, found = predictions
    targets = np.linspace(20, 60, len(found.numbers))
    values = (targets + np.array([1, -1] * 4))[:, None].astype(np.float32)
    found = Predictions(found.numbers, targets, values, 0.1)
    figures = VALUES.split_figures(found, "test")
    assert figures["mae"] == pytest.approx(1) and "accuracy" not in figures
    items = Scored(targets, found.outputs.astype(float), shards.samples["group"][found.numbers], np.full(8, ""))
    assert VALUES.measure(items, None)["mae"]["interval"] == pytest.approx([1, 1], abs=1e-5)
    rows = csv_of(VALUES, shards, found)
    assert list(rows[0]) == ["key", "source", "group", "target", "prediction"]
    assert (float(rows[0]["target"]), float(rows[0]["prediction"])) == (20, 21)
    write_history(VALUES, tmp_path, [row(1, VALUES, val_pearson=None)], "auto")
    with (tmp_path / "training_history.csv").open() as file:
        assert next(csv.DictReader(file))["train_mae"] == "0.5"
    plots.plot_values(targets, values[:, 0], tmp_path / "values.png")
    assert np.asarray(Image.open(tmp_path / "values.png").convert("L")).std() > 5
