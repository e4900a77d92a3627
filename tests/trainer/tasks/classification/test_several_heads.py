"""Several heads: what is learned, counted and reported of each, with clips that have no label of some."""

import csv
import dataclasses
import io
import json
import shutil

import numpy as np
import pytest
import torch
from heads import SIDE, add_side, step_gradients
from runs import ALONE, best_weights, evaluation_of, history, newest_weights, run_small
from sklearn.metrics import accuracy_score, f1_score
from torch.nn import functional

from shardify.format.records import UNLABELLED, Head
from trainer.config.load import load_settings
from trainer.errors import FormatError, Interrupted, SettingsError
from trainer.evaluation.predictions import Predictions
from trainer.shards.shard_set import open_shards
from trainer.tasks import task_of
from trainer.tasks.classification.losses import build_head_losses
from trainer.tools.predict import write_table
from trainer.tools.trained_model import load_model

HEADS = [Head("class", ["a", "b"]), SIDE]


@pytest.fixture(scope="module")
def two_heads(shards_folder, tmp_path_factory):
    """`shards_folder` with the head side, which follows from the class in part; every third clip has no label of it."""
    return add_side(shutil.copytree(shards_folder, tmp_path_factory.mktemp("heads") / "shards"))


@pytest.fixture(scope="module")
def finished(two_heads, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return out, run_small(two_heads, out, "ema=0.5")


def test_a_run_has_figures_of_each_head_and_of_both(finished, two_heads):
    out, record = finished
    test, shards = record["test"], open_shards(two_heads)
    assert record["metric"] == "mean.f1_macro" and list(test["heads"]) == ["class", "side"]
    rows = list(csv.DictReader((out / "results" / "test_predictions.csv").open()))
    numbers = shards.numbers("test")
    assert [row["side.label"] for row in rows] == [
        "" if label < 0 else str(label) for label in shards.samples["label_side"][numbers].tolist()
    ]
    for name in ("class", "side"):
        pairs = [(row[f"{name}.label"], row[f"{name}.prediction"]) for row in rows if row[f"{name}.label"]]
        truth, predicted = zip(*pairs, strict=True)
        assert test["heads"][name]["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
        assert test["heads"][name]["f1_macro"] == pytest.approx(
            f1_score(truth, predicted, average="macro", labels=sorted(set(truth)), zero_division=0)
        )
    assert test["mean.f1_macro"] == pytest.approx(np.mean([own["f1_macro"] for own in test["heads"].values()]))
    both = [row for row in rows if row["side.label"]]
    right = [all(row[f"{name}.label"] == row[f"{name}.prediction"] for name in ("class", "side")) for row in both]
    assert test["joint_accuracy"] == pytest.approx(np.mean(right))
    assert record["test_intervals"]["side.f1_macro"], "whole groups are resampled"
    counts = record["shards"]["clips_per_class"]["train"]
    assert list(counts) == ["class a", "class b", "side left", "side middle", "side right"]
    assert sum(counts.values()) == 20 + (shards.samples["label_side"][shards.numbers("train")] >= 0).sum()


def test_the_files_of_a_run_speak_of_each_head(finished):
    out, record = finished
    results = out / "results"
    assert record == json.loads((results / "experiment_results.json").read_text())
    plots = {path.name for path in (results / "evaluation").iterdir()}
    assert plots >= {"class_confusion_matrix.png", "side_confusion_matrix.png"} and len(plots) == 6
    assert {"train_side.accuracy", "val_mean.f1_macro", "val_side.f1_macro", "val_joint_accuracy"} <= set(
        history(out)[0]
    )
    text = (results / "experiment_report.txt").read_text()
    assert "heads class: a, b; side: left, middle, right" in text and "side: majority baseline" in text
    assert "side.f1_macro" in text and "side middle" in text


def test_a_resumed_run_is_the_same_and_several_heads_are_evaluated_and_predicted(finished, two_heads, tmp_path):
    out, record = finished
    with pytest.raises(Interrupted):
        run_small(two_heads, tmp_path / "run", "ema=0.5", "max_hours=1e-9")
    resumed = run_small(two_heads, tmp_path / "run", "ema=0.5", resume=True)
    assert resumed["test"] == record["test"] and history(tmp_path / "run") == history(out)
    assert all(map(torch.equal, newest_weights(out).values(), newest_weights(tmp_path / "run").values()))
    assert all(map(torch.equal, best_weights(out).values(), best_weights(tmp_path / "run").values()))
    found = evaluation_of(out, two_heads)
    assert found["clip"]["side.accuracy"]["value"] == pytest.approx(record["test"]["heads"]["side"]["accuracy"])
    model = load_model(out, device="cpu")
    of_video = model.predict(np.full((5, 16, 16, 3), 60, np.uint8))
    assert list(of_video.heads) == ["class", "side"] and of_video.class_name == of_video.heads["class"].class_name
    assert of_video.heads["side"].class_name in SIDE.classes
    table = io.StringIO()
    write_table(table, model.heads, [of_video], 1)
    (row,) = csv.DictReader(io.StringIO(table.getvalue()))
    assert (row["class"], row["side.class"]) == (of_video.class_name, of_video.heads["side"].class_name)


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_the_loss_without_a_label_is_zero_as_with_ignore_index(name):
    settings = load_settings(None, (f"loss.name={name}", *(("loss.gamma=0",) if name == "focal" else ()))).loss
    loss = build_head_losses(settings, [np.ones(2), np.ones(3)], [1.0, 0.5], torch.device("cpu"))
    logits = torch.randn(6, 5, requires_grad=True)
    labels = torch.tensor([[0, 2], [1, -1], [1, 0], [0, -1], [1, 1], [0, -1]])
    found = loss(logits, labels)
    wanted = functional.cross_entropy(logits[:, 2:], labels[:, 1], ignore_index=-1, reduction="none")
    torch.testing.assert_close(found[:, 1], 0.5 * wanted)
    torch.testing.assert_close(found[:, 0], functional.cross_entropy(logits[:, :2], labels[:, 0], reduction="none"))
    loss(logits, torch.full((6, 2), UNLABELLED)).sum().backward()
    assert torch.count_nonzero(logits.grad) == 0


def test_accumulated_parts_weigh_each_head_by_its_labels_in_the_whole_batch(two_heads):
    shards = open_shards(two_heads)
    whole, sums = step_gradients(shards, 1, ALONE)
    assert 0 < sums["clips_side"] < sums["clips_class"] == 8
    for accumulate in (2, 4):
        parts, added = step_gradients(shards, accumulate, ALONE)
        assert all(torch.allclose(a, b, atol=1e-6, rtol=0) for a, b in zip(whole, parts, strict=True))
        assert added == pytest.approx(sums)


def test_a_batch_without_labels_has_no_gradient(two_heads):
    shards = open_shards(two_heads)
    samples = np.array(shards.samples)
    for head in shards.heads:
        samples[head.field] = UNLABELLED
    found, sums = step_gradients(dataclasses.replace(shards, samples=samples), 2, ALONE)
    assert not any(torch.count_nonzero(each) for each in found) and sums["clips_side"] == sums["loss_side"] == 0


def task(*overrides, heads=HEADS):
    return task_of(load_settings(None, overrides), heads)


def test_a_head_without_labels_is_left_out_of_the_means():
    labels = np.array([[0, -1], [1, -1], [1, -1]])
    outputs = np.array([[2, 0, 0, 0, 1], [0, 2, 0, 0, 1], [2, 0, 0, 0, 1]], np.float32)
    found = task().figures(Predictions(np.arange(3), labels, outputs, 0.0))
    assert found["side.f1_macro"] is None and found["joint_accuracy"] is None
    assert found["mean.accuracy"] == found["class.accuracy"] == pytest.approx(2 / 3)
    part = task().report(Predictions(np.arange(3), labels, outputs, 0.0), [], None)
    assert "side: no clip has a label" in part.baseline and not any("side" in name for name in part.plots)
    assert part.table[0]["side.label"] == "" and part.worst.order[0] == 2


def test_what_the_heads_lack_is_said_before_training(two_heads):
    shards = open_shards(two_heads)
    splits = {name: shards.numbers(name) for name in ("train", "val", "test")}
    of_side = shards.samples["label_side"]
    val = splits["val"][of_side[splits["val"]] < 0]
    settings, notes = task().check_data(load_settings(), shards, splits | {"val": val})
    assert settings.metric == "mean.f1_macro" and "val has no label of side, which its means leave out" in notes[0]
    settings, notes = task().check_data(load_settings(None, ("metric=side.accuracy",)), shards, splits | {"val": val})
    assert settings.metric == "loss" and "side.accuracy is undefined there" in notes[0]
    bare = splits | {"train": splits["train"][:0]}
    with pytest.raises(FormatError, match=r"train has no label of class; .*loss\.heads\.class=0"):
        task().check_data(load_settings(), shards, bare)
    train = splits["train"]
    one = splits | {"train": train[(of_side[train] < 0) | (of_side[train] == 1)]}
    with pytest.raises(FormatError, match="labels of side of one class alone"):
        task().check_data(load_settings(), shards, one)
    task("loss.heads.side=0").check_data(load_settings(), shards, one)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("metric=auc_roc",), "metric is auc_roc, .*; use auto, loss, mean.f1_macro, "),
        (("loss.heads={sides: 1}",), "loss.heads has 'sides'; the heads of these shards are class, side"),
        (("loss.heads={class: 0, side: 0}",), "0 for every head"),
        (("loss.heads.side=-1",), "loss.heads.side is -1.0; it must be 0 or more"),
        (("loss.heads=[1, 2]",), r"write loss.heads.NAME: value"),
        (("calibrate=true",), "calibrate is true, but with several heads"),
        (("loss.name=bce",), "bce is for two classes, the shards have 3"),
    ],
)
def test_settings_that_do_not_go_with_several_heads(overrides, words):
    with pytest.raises(SettingsError, match=words):
        task(*overrides).build_loss(None, np.ones(5), torch.device("cpu"))


def test_a_head_may_not_be_called_as_all_of_them():
    with pytest.raises(FormatError, match="called mean"):
        task(heads=[HEADS[0], Head("mean", ["x", "y"])])
