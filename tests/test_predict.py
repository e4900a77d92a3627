"""trainer.evaluate and trainer.predict on one small trained run."""

import csv
import io
import json
import os
from unittest.mock import patch

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import build_shards

from trainer import __main__, evaluate, export, metrics, predict
from trainer.loader import ClipLoader
from trainer.shards import limit_per_class, open_shards

SMALL = ("model.backbone=tiny", "model.lstm_hidden=8", "epochs=2", "batch_size=4", "optimizer.lr=0.003")
KINDS = {"plain": (), "reduced": ("data.frames=3", "data.size=12"), "regression": ("loss.name=mse",)}


def train(shards, out, *settings):
    overrides = [part for setting in (*SMALL, *settings) for part in ("--set", setting)]
    with patch.object(metrics, "RESAMPLES", 10):  # 1000 take seconds
        return call(__main__.main, "--shards", shards, "--out", out, "--devices", "cpu", *overrides)


@pytest.fixture(scope="module")
def runs(shards_folder, tmp_path_factory):
    """A trained run of each kind."""
    folder = tmp_path_factory.mktemp("trained")
    for kind, settings in KINDS.items():
        result = train(shards_folder, folder / kind, *settings)
        assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def run(runs):
    return runs / "plain"


def call(command, *arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def read_csv(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("kind", KINDS)
def test_evaluate_repeats_the_runs_own_figures(kind, runs, shards_folder, tmp_path):
    run = runs / kind
    result = call(evaluate.main, "--run", run, "--shards", shards_folder, "--csv", tmp_path / "scores.csv")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "scores.csv").read_bytes() == (run / "results" / "test_predictions.csv").read_bytes()
    expected = json.loads((run / "results" / "experiment_results.json").read_text())["test"]
    figures = dict(line.split(maxsplit=1) for line in result.output.splitlines())
    assert set(figures) == set(expected)
    assert figures["loss"] == f"{expected['loss']:.4f}"


def test_evaluate_refuses_other_clips(run, data_folder, shards_folder, tmp_path):
    longer = build_shards(data_folder, tmp_path / "longer", frames=7)
    wrong = call(evaluate.main, "--run", run, "--shards", longer)
    assert wrong.exit_code == 1 and "frames is 7, the model was trained on 5" in wrong.output
    missing = call(evaluate.main, "--run", tmp_path, "--shards", shards_folder)
    assert missing.exit_code == 1 and "holds no models/best_model.pth" in missing.output


@pytest.mark.parametrize("kind", KINDS)
def test_a_videos_score_is_that_of_its_clip_in_the_shard(kind, runs, data_folder):
    expected = {row["source"]: row for row in read_csv((runs / kind / "results" / "test_predictions.csv").read_text())}
    result = call(predict.main, "--run", runs / kind, data_folder / "test")
    rows = read_csv(result.output)
    assert len(rows) == len(expected) == 8
    column = "prediction" if kind == "regression" else "score"
    assert len({row[column] for row in expected.values()}) > 4  # of clips that differ
    for row in rows:
        clip = expected[os.path.relpath(row["source"], data_folder)]
        assert abs(float(row["score"]) - float(clip[column])) <= 1e-5
        assert float(row["prediction"]) == pytest.approx(float(clip["prediction"]), abs=1e-5) and row["error"] == ""


@pytest.mark.parametrize("kind", KINDS)
def test_the_exported_model_gives_the_runs_scores(kind, runs, shards_folder, tmp_path):
    """From the clips as they are in the shards, whatever part of them the model sees."""
    call(export.main, "--run", runs / kind, "--format", "torch", "--out", tmp_path / "model.pt2")
    program = torch.export.load(tmp_path / "model.pt2").module()
    ((clips, _),) = ClipLoader(shards_folder, "test", 8)
    scores, predictions = program(clips)
    rows = read_csv((runs / kind / "results" / "test_predictions.csv").read_text())
    column = "prediction" if kind == "regression" else "score"
    assert scores[:, -1].tolist() == pytest.approx([float(row[column]) for row in rows], abs=1e-5)
    assert predictions.tolist() == pytest.approx([float(row["prediction"]) for row in rows], abs=1e-5)


def test_the_run_says_what_the_model_sees(runs):
    record = json.loads((runs / "reduced" / "results" / "experiment_results.json").read_text())
    assert record["model"]["input"] == {"frames": 3, "size": 12}
    assert (record["shards"]["frames"], record["shards"]["size"]) == (5, 16)
    saved = torch.load(runs / "reduced" / "models" / "best_model.pth", weights_only=True)
    assert [saved[name] for name in ("frames", "size", "stored_frames", "stored_size")] == [3, 12, 5, 16]


@pytest.mark.parametrize("setting", ["frames=6", "size=17"])
def test_more_than_the_shards_hold_is_refused(setting, shards_folder, tmp_path):
    result = train(shards_folder, tmp_path / "run", f"data.{setting}")
    name, value = setting.split("=")
    stored = {"frames": 5, "size": 16}[name]
    assert result.exit_code == 2
    assert f"data.{name} is {value}, but {shards_folder} holds {stored}" in result.output
    assert not (tmp_path / "run").exists()


def test_a_balanced_part_of_train(shards_folder, tmp_path):
    result = train(shards_folder, tmp_path / "run", "data.max_per_class=4", "epochs=1")
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "run" / "results" / "experiment_results.json").read_text())
    assert record["shards"]["clips"] == {"train": 8, "val": 8, "test": 8}
    shards = open_shards(shards_folder)
    train_numbers = shards.numbers("train")
    parts = {most: limit_per_class(shards, train_numbers, most, seed=3) for most in (2, 4, 99)}
    assert np.bincount(shards.samples["label"][parts[4]]).tolist() == [4, 4]
    assert set(parts[2]) < set(parts[4]) and np.array_equal(parts[99], train_numbers)
    assert np.array_equal(parts[4], limit_per_class(shards, train_numbers, 4, seed=3))
    assert not np.array_equal(parts[4], limit_per_class(shards, train_numbers, 4, seed=4))


def test_what_cannot_be_read_has_a_row_with_the_reason(run, data_folder, tmp_path):
    good = next((data_folder / "test" / "a").iterdir())
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    arguments = ["--run", run, good, tmp_path / "bad.mp4", tmp_path / "missing.mp4", "--csv", tmp_path / "out.csv"]
    result = call(predict.main, *arguments)
    assert result.exit_code == 0, result.output
    rows = read_csv((tmp_path / "out.csv").read_text())
    assert list(rows[0]) == ["source", "score", "prediction", "error"]
    assert [bool(row["error"]) for row in rows] == [False, True, True]
    assert "not a video" in rows[1]["error"] and "No such file" in rows[2]["error"]
