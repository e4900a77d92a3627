"""Tables and pictures of a run, also where there is little to show."""

import csv
import io
import itertools
import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import average_precision_score

from trainer.config.load import load_settings
from trainer.data.shard_set import open_shards
from trainer.evaluation import plots, report
from trainer.evaluation.metrics import softmax
from trainer.evaluation.predictions import Predictions, Scored, predictions_csv, source_rows
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
    rows = {shards.key(number): names for number in found.numbers}
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
    report.write_history(folder, rows, task.history_columns(), task.history_curves(metric), task.metric_limits)


@pytest.mark.parametrize("rows", [[row(1)], [row(1), row(2, val_auc_roc=None)]], ids=["one", "undefined"])
@pytest.mark.parametrize("metric", ["auc_roc", "loss"])
def test_history(tmp_path, rows, metric):
    write_history(CLASSES, tmp_path, rows, metric)
    with (tmp_path / "training_history.csv").open() as file:
        read = list(csv.DictReader(file))
    assert [int(each["epoch"]) for each in read] == [each["epoch"] for each in rows]
    assert read[-1]["val_auc_roc"] == ("" if len(rows) == 2 else "0.5")
    assert Image.open(tmp_path / "training_history.png").size[0] > 1000


@pytest.mark.parametrize(("num_classes", "only_one"), [(2, False), (2, True), (3, True), (12, False)])
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


def shown(monkeypatch, plot, *arguments):
    """The axes of a picture that was not closed."""
    monkeypatch.setattr(plots.plt, "close", lambda figure: None)
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figure.draw_without_rendering())
    plot(*arguments)
    figure = plots.plt.gcf()
    monkeypatch.undo()
    plots.plt.close(figure)
    return figure.axes


ODD = ["over_$5", "$1_to_$5", "_^{x}\\frac", "a\nb", r"\$ & %"]


def test_names_are_drawn_as_they_are(tmp_path, monkeypatch):
    shown_names, labels = [*ODD[:3], "a\N{REPLACEMENT CHARACTER}b", ODD[4]], np.arange(5).repeat(4)
    scores = softmax(np.random.default_rng(0).normal(size=(20, 5)))
    axes = shown(monkeypatch, plots.plot_confusion, labels, scores.argmax(1), ODD, tmp_path / "confusion.png")
    assert texts(axes[0].get_xticklabels()) == texts(axes[0].get_yticklabels()) == shown_names
    for axis in shown(monkeypatch, plots.plot_curves, labels, scores, ODD, tmp_path / "curves.png"):
        legend = texts(axis.get_legend().get_texts())
        assert all(text.strip().startswith(f"{name}  0.") for text, name in zip(legend, shown_names, strict=False))
    axes = shown(monkeypatch, plots.plot_scores, labels, scores, ODD, None, tmp_path / "scores.png")
    assert [axis.get_title("left") for axis in axes] == [f"{name}, 4 clips" for name in shown_names]
    for axis in axes:
        assert not any(text.get_parse_math() for text in axis.findobj(plots.matplotlib.text.Text) if "$" in str(text))


def test_results_are_there_whatever_becomes_of_the_pictures(predictions, tmp_path, caplog):
    shards, found = predictions
    (tmp_path / "evaluation").write_text("where the pictures' folder should be")
    (tmp_path / "worst_clips.html").mkdir()
    record = record_of(threshold=None)
    report.write_results(tmp_path, record, shards, found, CLASSES.report(found, shards.classes, None))
    assert json.loads((tmp_path / "experiment_results.json").read_text()) == record
    assert (tmp_path / "experiment_report.txt").is_file() and (tmp_path / "test_predictions.csv").is_file()
    assert len(caplog.messages) == 4 and all("could not be made (" in message for message in caplog.messages)
    assert not plots.plt.get_fignums()
    assert report.remove_results(tmp_path / "empty", CLASSES.plots) is False


def texts(artists):
    return [artist.get_text() for artist in artists]


def history_of(monkeypatch, task, rows, metric, folder):
    curves = task.history_curves(metric)
    return shown(monkeypatch, plots.plot_history, rows, curves, task.metric_limits, folder / "history.png")


def test_the_highest_loss_has_room_above(tmp_path, monkeypatch):
    rows = [row(1, train_loss=2.0, val_loss=1.99), row(2, train_loss=1.98, val_loss=1.97)]
    losses, _, rates = history_of(monkeypatch, CLASSES, rows, "auc_roc", tmp_path)
    assert losses.get_ylim()[0] == 0 and 2.05 < losses.get_ylim()[1] < 2.3
    assert rates.get_ylim()[1] > 0.5


def test_what_is_undefined_in_every_epoch_is_not_in_the_legend(tmp_path, monkeypatch):
    rows = [row(1, val_auc_roc=None), row(2, val_auc_roc=None)]
    _, seconds, _ = history_of(monkeypatch, CLASSES, rows, "loss", tmp_path)
    assert texts(seconds.get_legend().get_texts()) == ["train accuracy", "validation accuracy"]
    assert seconds.get_title("left") == "Accuracy"


def test_errors_and_r2_do_not_share_an_axis(tmp_path, monkeypatch):
    _, seconds, _ = history_of(monkeypatch, VALUES, [row(1, VALUES)], "r2", tmp_path)
    assert texts(seconds.get_legend().get_texts()) == ["validation R²"]


def test_one_class_says_that_curves_are_undefined(tmp_path, monkeypatch):
    scores = softmax(np.random.default_rng(0).normal(size=(9, 2)))
    axes = shown(monkeypatch, plots.plot_curves, np.zeros(9, int), scores, ["fake", "real"], tmp_path / "curves.png")
    for axis in axes:
        assert texts(axis.texts) == ["undefined: all clips are fake"]
        assert texts(axis.get_legend().get_texts()) == ["real  undefined"]


def test_names_are_below_the_curves_and_lines_differ(tmp_path, monkeypatch):
    rng, names = np.random.default_rng(0), [f"{'a very long name ' * 7} {k}" for k in range(12)]
    scores = softmax(rng.normal(size=(60, 12)))
    axes = shown(monkeypatch, plots.plot_curves, rng.integers(0, 11, 60), scores, names, tmp_path / "curves.png")
    for axis in axes:
        legend = axis.get_legend()
        assert legend.get_window_extent().y1 < axis.get_window_extent().y0
        assert legend.get_window_extent().width < axis.get_window_extent().width * 1.1
        assert "undefined" in legend.get_texts()[11].get_text(), "the last class has no clips"
        colours = [line.get_color() for line in axis.get_lines()[:12]]
        assert len(set(colours)) == 12 and colours[:10] == list(plots.plt.get_cmap("tab10").colors)


def test_precision_steps_have_the_area_of_the_average_precision():
    rng = np.random.default_rng(0)
    for _ in range(20):
        positive = np.append([True, False], rng.random(20) < 0.4)
        scores = rng.normal(size=22) + positive
        recall, precision = plots.precision_steps(positive, scores)
        assert -np.sum(np.diff(recall) * precision[:-1]) == pytest.approx(average_precision_score(positive, scores))
        assert (np.diff(recall) < 0).all() and recall[-1] == 0 and precision[-1] == precision[-2]


@pytest.mark.parametrize("count", [1, 3, 30, 5000])
def test_clips_are_counted_in_whole_numbers(tmp_path, monkeypatch, count):
    targets = np.random.default_rng(0).normal(size=count)
    _, errors = shown(monkeypatch, plots.plot_values, targets, targets**2, tmp_path / "values.png")
    assert np.array_equal(errors.get_yticks(), errors.get_yticks().round())
    bars = len(errors.patches)
    assert bars == 10 if count <= 30 else bars == 40


@pytest.mark.parametrize("num_classes", [2, 12])
def test_long_names_leave_the_squares_their_room(tmp_path, monkeypatch, num_classes):
    names = [f"a_long_name_of_a_class_number_{k}_of_all_the_classes" for k in range(num_classes)]
    labels = np.arange(num_classes).repeat(3)
    axis = shown(monkeypatch, plots.plot_confusion, labels, labels, names, tmp_path / "confusion.png")[0]
    assert axis.get_window_extent().width / plots.plt.rcParams["figure.dpi"] > 0.5 * num_classes
    boxes = [label.get_window_extent() for label in axis.get_xticklabels()]
    assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))


def record_of(**changes):
    figures = {"split": "test", "clips": 9, "loss": 0.5, "accuracy": 0.75, "recall": None}
    return {
        "run": "run", "shards": {"folder": "shards"}, "classes": ["a", "b"], "test": figures,
        "model": {"name": "m", "backbone": "tiny", "parameters": 5, "weights": "random"},
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
    assert "accuracy           0.7500  (0.5000 to 0.8750)" in text and "recall             undefined\n" in text
    alone = text_of(threshold=None, test_intervals={"accuracy": None})
    undecided = "no threshold (validation has clips of one class), so the larger probability decides"
    assert f"no intervals (they take two groups, and clips of two classes);\n{undecided}" in alone
    assert "by group;\nthe largest probability decides\n" in text_of(threshold=None, classes=["a", "b", "c"])
    figures = {"split": "test", "clips": 9, "mae": 2.0}
    values = text_of(VALUES, test=figures, test_intervals={"mae": None}, threshold=None)
    assert "no intervals (they take two groups, and targets that differ);\nin the targets' unit" in values


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
