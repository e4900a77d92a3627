"""trainer.evaluate and trainer.predict on one small trained run."""

import csv
import io
import json
import os

import pytest
from click.testing import CliRunner
from conftest import build_shards

from trainer import __main__, evaluate, predict

SMALL = ["model.backbone=tiny", "model.lstm_hidden=8", "epochs=2", "batch_size=4", "optimizer.lr=0.003"]


@pytest.fixture(scope="module")
def run(shards_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    overrides = [part for setting in SMALL for part in ("--set", setting)]
    result = call(__main__.main, "--shards", shards_folder, "--out", out, "--devices", "cpu", *overrides)
    assert result.exit_code == 0, result.output
    return out


def call(command, *arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def read_csv(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_evaluate_repeats_the_runs_own_figures(run, shards_folder, tmp_path):
    result = call(evaluate.main, "--run", run, "--shards", shards_folder, "--csv", tmp_path / "scores.csv")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "scores.csv").read_bytes() == (run / "results" / "test_predictions.csv").read_bytes()
    expected = json.loads((run / "results" / "experiment_results.json").read_text())["test"]
    figures = dict(line.split(maxsplit=1) for line in result.output.splitlines())
    assert figures["loss"] == f"{expected['loss']:.4f}" and figures["accuracy"] == f"{expected['accuracy']:.4f}"


def test_evaluate_refuses_other_clips(run, data_folder, shards_folder, tmp_path):
    longer = build_shards(data_folder, tmp_path / "longer", frames=7)
    wrong = call(evaluate.main, "--run", run, "--shards", longer)
    assert wrong.exit_code == 1 and "frames is 7, the model was trained on 5" in wrong.output
    missing = call(evaluate.main, "--run", tmp_path, "--shards", shards_folder)
    assert missing.exit_code == 1 and "holds no models/best_model.pth" in missing.output


def test_a_videos_score_is_that_of_its_clip_in_the_shard(run, data_folder):
    expected = {row["source"]: row for row in read_csv((run / "results" / "test_predictions.csv").read_text())}
    result = call(predict.main, "--run", run, data_folder / "test")
    rows = read_csv(result.output)
    assert len(rows) == len(expected) == 8
    for row in rows:
        clip = expected[os.path.relpath(row["source"], data_folder)]
        assert abs(float(row["score"]) - float(clip["score"])) <= 1e-5
        assert row["prediction"] == clip["prediction"] and row["error"] == ""


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
