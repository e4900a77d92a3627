"""Whole runs on small real shards: what they leave behind, how they stop and go on."""

import csv
import json
from unittest.mock import patch

import numpy as np
import pytest
import torch
import yaml
from folders import build_shards, make_clips
from PIL import Image
from runs import ALONE, CPU, SMALL, MeanColours, best_weights, evaluation_of, history, run_small
from safetensors import safe_open

from trainer.config.load import load_settings
from trainer.engine.checkpoint import load_newest
from trainer.errors import Interrupted, TrainerError
from trainer.evaluation import metrics
from trainer.saved_model import load_saved
from trainer.shards.shard_set import open_shards
from trainer.train import train


@pytest.fixture(scope="module")
def finished(shards_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "first"
    with patch.object(metrics, "RESAMPLES", 10):  # with its pictures
        return out, train(load_settings(None, SMALL), shards_folder, out, ALONE, False)


def test_everything_that_was_promised_is_there(finished):
    out, record = finished
    assert yaml.safe_load((out / "config.yaml").read_text())["epochs"] == 2
    assert load_settings(out / "config.yaml").model.backbone == "tiny"
    assert json.loads((out / "results" / "experiment_results.json").read_text()) == record
    assert record["test"]["split"] == "test"
    assert record["test"]["auc_roc"] == 1.0, "the classes differ in brightness"
    assert record["shards"]["clips"] == {"train": 20, "val": 8, "test": 8}
    assert record["settings"]["optimizer"]["lr"] == 3e-3
    report = (out / "results" / "experiment_report.txt").read_text()
    assert "auc_roc" in report
    assert "Final figures on test, 8 clips" in report
    pictures = list((out / "results").rglob("*.png"))
    assert {path.stem for path in pictures} == {
        "training_history", "confusion_matrix", "roc_pr_curves", "score_distribution",
    }  # fmt: skip
    for path in pictures:
        with Image.open(path) as picture:
            assert min(picture.size) > 200
            assert np.asarray(picture).std() > 5


def test_history_has_a_row_per_epoch(finished):
    out, _ = finished
    rows = history(out)
    assert [int(row["epoch"]) for row in rows] == [1, 2]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])


def test_learning_rates_are_those_of_the_steps(shards_folder, tmp_path):
    """Of an epoch's last of three steps, also where the schedule moves after it, and where the run goes on in it."""
    own = ("model.name=runs:MeanColours", "optimizer.lr=0.5", "epochs=4")
    cosine, out = (*own, "scheduler.name=cosine", "scheduler.warmup_epochs=1"), tmp_path / "cosine"
    with pytest.raises(Interrupted):
        run_small(shards_folder, out, *cosine, "max_hours=1e-9")
    run_small(shards_folder, out, *cosine, resume=True)
    expected = [0.5, *(0.25 * (1 + np.cos(np.pi * step / 9)) for step in (2, 5, 8))]
    assert [float(row["lr"]) for row in history(out)] == pytest.approx(expected)
    plateau = (*own, "scheduler.patience=0", "scheduler.factor=0.1", "metric=accuracy")
    run_small(shards_folder, tmp_path / "plateau", *plateau)
    rows, lr, best = history(tmp_path / "plateau"), 0.5, 0.0
    for row in rows:
        assert float(row["lr"]) == pytest.approx(lr)
        lr, best = (lr, max(best, value)) if (value := float(row["val_accuracy"])) > best else (lr / 10, best)
    assert lr < 0.5, "no epoch was worse than the one before it"


def test_averaged_weights_are_the_best_model(shards_folder, tmp_path):
    run_small(shards_folder, tmp_path / "run", "model.name=runs:MeanColours", "epochs=1", "ema=0.9")
    checkpoint, best = load_newest(tmp_path / "run" / "checkpoints"), best_weights(tmp_path / "run")
    assert all(torch.equal(value, checkpoint["ema"]["module"][name]) for name, value in best.items())
    assert not any(torch.equal(value, checkpoint["model"][name]) for name, value in best.items())


def test_predictions_belong_to_the_test_clips(finished, shards_folder):
    out, record = finished
    shards = open_shards(shards_folder)
    with (out / "results" / "test_predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["key"] for row in rows] == [shards.key(number) for number in shards.numbers("test")]
    assert all(f"test/{'ab'[int(row['label'])]}/" in row["source"] for row in rows)
    right = np.mean([row["label"] == row["prediction"] for row in rows])
    assert right == record["test"]["accuracy"]


def test_the_best_model_in_both_forms(finished):
    out, _ = finished
    saved = torch.load(out / "models" / "best_model.pth", weights_only=True)
    with safe_open(out / "models" / "best_model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["classes"]) == saved["classes"] == ["a", "b"]
        assert set(file.keys()) == set(saved["model"])
        assert all(torch.equal(file.get_tensor(name), saved["model"][name]) for name in file.keys())  # noqa: SIM118


def test_the_same_settings_give_the_same_run(shards_folder, tmp_path):
    run_small(shards_folder, tmp_path / "a", "data.cache=none", "data.workers=1")
    run_small(shards_folder, tmp_path / "b", "data.cache=ram", "data.workers=3")
    assert history(tmp_path / "a") == history(tmp_path / "b")
    a, b = best_weights(tmp_path / "a"), best_weights(tmp_path / "b")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_checkpoints_within_an_epoch(shards_folder, tmp_path):
    every_step = ("model.name=runs:MeanColours", "checkpoint_every_steps=1", "keep_checkpoints=99")
    run_small(shards_folder, tmp_path / "run", *every_step)
    names = sorted(path.name[:13] for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == [f"step-{step:08d}" for step in range(1, 7)]


def test_without_val_and_test_and_with_three_classes(tmp_path, capfd):
    data = make_clips(tmp_path / "data", {f"train/{name}": 12 for name in ("x", "y", "z")})
    shards = build_shards(data, tmp_path / "shards")
    record = run_small(shards, tmp_path / "run", "loss.name=focal")
    assert record["test"]["split"] == "val"
    assert record["shards"]["clips"]["val"] >= 3
    said = capfd.readouterr().err
    assert "no val split" in said
    assert "no test split" in said
    report = (tmp_path / "run" / "results" / "experiment_report.txt").read_text()
    assert "VALIDATION (there is no test split" in report
    with (tmp_path / "run" / "results" / "test_predictions.csv").open() as file:
        assert {"score_x", "score_y", "score_z"} <= set(csv.DictReader(file).fieldnames)


@pytest.mark.parametrize("metric", ["loss", "f1"])
def test_another_metric_chooses(shards_folder, tmp_path, metric):
    record = run_small(shards_folder, tmp_path / "run", f"metric={metric}", "epochs=4")
    values = [float(row[f"val_{metric}"]) for row in history(tmp_path / "run")]
    best = min(values) if metric == "loss" else max(values)
    assert record["best_epoch"] == values.index(best) + 1
    assert record["validation"]["loss"] == pytest.approx(
        float(history(tmp_path / "run")[record["best_epoch"] - 1]["val_loss"])
    )


def test_out_of_memory_elsewhere_is_one_line(shards_folder, tmp_path, monkeypatch):
    def forward(self, clips):
        if not self.training:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")
        return self.head(clips.mean((1, 3, 4)))

    monkeypatch.setattr(MeanColours, "forward", forward)
    with pytest.raises(TrainerError, match=r"out of memory in the optimizer or in evaluation \(CUDA .* 2 GiB\.\); use"):
        run_small(shards_folder, tmp_path / "run", "model.name=runs:MeanColours")


def test_evaluation_agrees_with_the_run(tmp_path):
    """Also where the evaluated split has other shares of the classes than train, which weigh the loss."""
    data = make_clips(tmp_path / "data", {"train/a": 12, "train/b": 3, "val/a": 4, "val/b": 4})
    shards = build_shards(data, tmp_path / "shards")
    run_small(shards, tmp_path / "run", "loss.class_weights=true", "epochs=1")
    record = json.loads((tmp_path / "run" / "results" / "experiment_results.json").read_text())
    figures = evaluation_of(tmp_path / "run", shards, "val")
    assert figures == record["evaluation"] and figures["loss"] == pytest.approx(record["validation"]["loss"])


def test_a_run_that_goes_on_after_its_end_leaves_no_stale_figures(shards_folder, tmp_path, capfd):
    out = tmp_path / "run"
    threshold = run_small(shards_folder, out)["threshold"]
    assert load_saved(out, CPU).threshold == threshold
    (out / "results" / "evaluation" / "notes.txt").write_text("a user's own")
    with pytest.raises(Interrupted):
        run_small(shards_folder, out, "epochs=6", "max_hours=1e-9", resume=True)
    left = {path.name for path in (out / "results").rglob("*") if path.is_file()}
    assert left == {"training_history.csv", "training_history.png", "notes.txt"}
    assert f"the results of an earlier end of {out} are removed" in capfd.readouterr().err
    assert evaluation_of(out, shards_folder)["clips"] == 8
    last = run_small(shards_folder, out, "epochs=6", resume=True)
    assert load_saved(out, CPU).threshold == last["threshold"]


def test_damaged_figures_of_a_finished_run_are_made_again(shards_folder, tmp_path):
    first = run_small(shards_folder, tmp_path / "run")
    path = tmp_path / "run" / "results" / "experiment_results.json"
    path.write_bytes(path.read_bytes()[:100])
    assert run_small(shards_folder, tmp_path / "run", resume=True)["test"] == first["test"]
    assert json.loads(path.read_text())["test"] == first["test"]


def test_early_stopping(shards_folder, tmp_path):
    record = run_small(shards_folder, tmp_path / "run", "epochs=30", "early_stopping=2", "scheduler.name=constant")
    assert record["epochs_trained"] == record["best_epoch"] + 2 < 30


def test_a_loss_that_explodes_ends_the_run(shards_folder, tmp_path):
    with pytest.raises(TrainerError, match=r"after epoch 1 the model's outputs are not finite; lower optimizer\.lr"):
        run_small(shards_folder, tmp_path / "run", "optimizer.lr=1e20", "optimizer.clip_norm=0")


def test_damaged_clips_are_counted_in_the_results(own_shards, tmp_path):
    shards = open_shards(own_shards)
    number = shards.numbers("test")[0]
    with open(shards.shard(number), "r+b") as file:
        file.seek(int(shards.samples["frames_offset"][number]))
        file.write(b"??")
    own = ("model.name=runs:MeanColours", "data.on_error=skip", "data.max_errors=0.2")
    record = run_small(own_shards, tmp_path / "run", *own)
    assert record["test"]["clips"] == 7
    assert [shards.key(number) in line for line in record["damaged_clips"]] == [True]
    assert "1 damaged clips were skipped" in record["notes"]
