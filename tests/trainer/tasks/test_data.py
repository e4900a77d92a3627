"""Splits that lack classes: refused in training, said and reported elsewhere."""

import re

import numpy as np
import pytest
from folders import build_shards, make_clips
from runs import SMALL, history, run_small

from trainer.config.load import load_settings
from trainer.errors import FormatError
from trainer.shards.shard_set import open_shards
from trainer.shards.splits import choose_splits
from trainer.tasks import task_of

SETTINGS = load_settings(None, (*SMALL, "metric=auc_roc"))


@pytest.fixture(scope="module")
def lopsided(tmp_path_factory):
    """Shards whose val has clips of a only, and whose test has clips of b only; both classes in train."""
    root = tmp_path_factory.mktemp("lopsided")
    data = make_clips(root / "data", {"train/a": 6, "train/b": 6, "val/a": 4, "test/b": 3}, frames=6)
    return build_shards(data, root / "shards")


@pytest.fixture(scope="module")
def finished(lopsided, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return out, run_small(lopsided, out, "epochs=4")


def check_data(settings, shards, splits):
    return task_of(settings).check_data(settings, shards, splits)


def splits_of(shards):
    return choose_splits(shards, 0.1, 0)[0]


def test_a_note_per_split_names_what_it_lacks(finished):
    _, record = finished
    assert [note for note in record["notes"] if "no clips" in note] == [
        "val has no clips of b: auc_roc is undefined there, so the best epoch is chosen by val's loss",
        "test has no clips of a",
    ]


def test_the_loss_chooses_where_the_metric_is_undefined(finished):
    out, record = finished
    losses = [float(row["val_loss"]) for row in history(out)]
    assert record["metric"] == record["settings"]["metric"] == "loss"
    assert record["best_epoch"] == 1 + losses.index(min(losses))
    assert record["validation"]["loss"] == pytest.approx(min(losses))


def test_the_report_says_what_was_used(finished):
    out, record = finished
    text = (out / "results" / "experiment_report.txt").read_text()
    assert f"best epoch {record['best_epoch']} of 4, by validation's loss\n" in text
    assert "no threshold (validation has clips of one class)" in text and record["threshold"] is None
    assert re.search(r"^ +auc +undefined$", text, re.MULTILINE), "without an interval"
    assert record["test_intervals"]["auc_roc"] is None and record["test_intervals"]["accuracy"]
    assert record["test"]["recall"] is not None, "all test clips are of class 1"
    assert record["validation"]["recall"] is record["validation"]["f1"] is record["validation"]["precision"] is None


def test_such_a_run_goes_on(lopsided, tmp_path, finished):
    run_small(lopsided, tmp_path / "run", "epochs=2", "metric=auc_roc")
    record = run_small(lopsided, tmp_path / "run", "epochs=4", "metric=auc_roc", resume=True)
    assert record["test"] == finished[1]["test"] and record["notes"][:2] == finished[1]["notes"][:2]


@pytest.mark.parametrize(("metric", "chosen"), [("f1", "loss"), ("accuracy", "accuracy"), ("loss", "loss")])
def test_only_an_undefined_metric_is_replaced(lopsided, metric, chosen):
    shards = open_shards(lopsided)
    settings, notes = check_data(load_settings(None, (*SMALL, f"metric={metric}")), shards, splits_of(shards))
    assert settings.metric == chosen
    assert ("best epoch" in notes[0]) == (metric == "f1")


def test_whole_splits_need_no_word(shards_folder):
    shards = open_shards(shards_folder)
    assert check_data(SETTINGS, shards, splits_of(shards)) == (SETTINGS, [])


def test_training_on_one_class_is_refused(lopsided, tmp_path):
    shards = open_shards(lopsided)
    splits = {"train": shards.numbers("val"), "val": shards.numbers("train")}
    with pytest.raises(
        FormatError, match=r"shards: what is left of train once val is held out has one class, a; build"
    ):
        check_data(SETTINGS, shards, splits)
    data = make_clips(tmp_path / "data", {"train/b": 4, "val/a": 2, "val/b": 2}, frames=6)
    with pytest.raises(FormatError, match=r"shards: train has one class, b; build shards .*loss\.name=mse"):
        run_small(build_shards(data, tmp_path / "shards"), tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_outputs_that_are_all_the_same_have_no_correlation_and_do_not_stop_a_run(shards_folder, tmp_path):
    still = ("model.name=runs:MeanColours", "optimizer.lr=1e-15", "loss.name=mse", "metric=pearson")
    record = run_small(shards_folder, tmp_path / "run", *still)
    assert record["metric"] == "pearson" and record["validation"]["pearson"] is None
    assert record["best_epoch"] == 1, "the second is no better"


def test_targets_that_are_all_the_same_give_no_r2(lopsided):
    shards = open_shards(lopsided)  # without a manifest, a clip's target is its label
    settings = load_settings(None, (*SMALL, "loss.name=mse", "metric=r2"))
    settings, notes = check_data(settings, shards, splits_of(shards))
    assert settings.metric == "loss" and notes[-1].startswith("val's targets are all the same: r2 is undefined there")
    assert np.ptp(shards.samples["target"][shards.numbers("train")]) > 0
