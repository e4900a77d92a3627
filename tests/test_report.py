"""Tables and pictures of a run, also where there is little to show."""

import csv
import io

import numpy as np
import pytest
from PIL import Image

from trainer import plots, report
from trainer.engine import Predictions
from trainer.metrics import softmax
from trainer.shards import open_shards


@pytest.fixture
def predictions(shards_folder):
    shards = open_shards(shards_folder)
    numbers = shards.numbers("test")
    logits = np.random.default_rng(0).normal(size=(len(numbers), 2)).astype(np.float32)
    return shards, Predictions(numbers, shards.samples["label"][numbers].astype(np.int64), logits, 0.7)


def test_a_row_per_clip(predictions):
    shards, found = predictions
    table = report.predictions_csv(shards, found, None, report.source_rows(shards))
    rows = list(csv.DictReader(io.StringIO(table.decode())))
    assert list(rows[0]) == ["key", "source", "group", "label", "score", "prediction"]
    for row, logits in zip(rows, found.logits, strict=True):
        assert float(row["score"]) == pytest.approx(1 / (1 + np.exp(logits[0] - logits[1])), abs=1e-6)
        assert int(row["prediction"]) == logits.argmax()


def test_the_threshold_decides(predictions):
    shards, found = predictions
    table = report.predictions_csv(shards, found, 0.0, {})
    assert {row["prediction"] for row in csv.DictReader(io.StringIO(table.decode()))} == {"1"}


def test_without_samples_csv_the_keys_remain(predictions, own_shards):
    _, found = predictions
    (own_shards / "samples.csv").unlink()
    shards = open_shards(own_shards)
    table = report.predictions_csv(shards, found, None, report.source_rows(shards))
    rows = list(csv.DictReader(io.StringIO(table.decode())))
    assert len(rows) == 8
    assert {row["source"] for row in rows} == {""}
    assert all(row["key"] for row in rows)


def row(epoch, **changes):
    return dict.fromkeys(report.HISTORY_COLUMNS, 0.5) | {"epoch": epoch} | changes


@pytest.mark.parametrize("rows", [[row(1)], [row(1), row(2, val_auc_roc=None)]], ids=["one", "undefined"])
@pytest.mark.parametrize("metric", ["auc_roc", "loss"])
def test_history(tmp_path, rows, metric):
    report.write_history(tmp_path, rows, metric)
    with (tmp_path / "training_history.csv").open() as file:
        read = list(csv.DictReader(file))
    assert [int(each["epoch"]) for each in read] == [each["epoch"] for each in rows]
    assert read[-1]["val_auc_roc"] == ("" if len(rows) == 2 else "0.5")
    assert Image.open(tmp_path / "training_history.png").size[0] > 1000


@pytest.mark.parametrize("num_classes", [2, 3, 12])
@pytest.mark.parametrize("only_one", [False, True])
def test_pictures_of_any_number_of_classes(tmp_path, num_classes, only_one):
    rng = np.random.default_rng(0)
    labels = np.zeros(40, int) if only_one else rng.integers(0, num_classes, 40)
    scores = softmax(rng.normal(size=(40, num_classes)))
    classes = [f"class {k}" for k in range(num_classes)]
    plots.plot_confusion(labels, scores.argmax(1), classes, tmp_path / "a" / "confusion.png")
    plots.plot_curves(labels, scores, classes, tmp_path / "a" / "curves.png")
    plots.plot_scores(labels, scores, classes, 0.3 if num_classes == 2 else None, tmp_path / "a" / "scores.png")
    for path in (tmp_path / "a").iterdir():
        assert np.asarray(Image.open(path).convert("L")).std() > 5
    assert not plots.plt.get_fignums(), "figures that stay open fill the memory"


def test_regression(predictions, tmp_path):
    shards, found = predictions
    targets = np.linspace(20, 60, len(found.numbers))
    values = (targets + np.array([1, -1] * 4))[:, None].astype(np.float32)
    found = Predictions(found.numbers, targets, values, 0.1)
    figures = report.split_figures(found, "test")
    assert figures["mae"] == pytest.approx(1) and "accuracy" not in figures
    intervals = report.intervals(shards, found, None)
    assert intervals["mae"] == pytest.approx([1, 1], abs=1e-5)
    rows = list(csv.DictReader(io.StringIO(report.predictions_csv(shards, found, None, {}).decode())))
    assert list(rows[0]) == ["key", "source", "group", "target", "prediction"]
    assert (float(rows[0]["target"]), float(rows[0]["prediction"])) == (20, 21)
    history = dict.fromkeys(report.VALUE_HISTORY_COLUMNS, 0.5) | {"epoch": 1, "val_pearson": None}
    report.write_history(tmp_path, [history], "auto")
    with (tmp_path / "training_history.csv").open() as file:
        assert next(csv.DictReader(file))["train_mae"] == "0.5"
    plots.plot_values(targets, values[:, 0], tmp_path / "values.png")
    assert np.asarray(Image.open(tmp_path / "values.png").convert("L")).std() > 5
