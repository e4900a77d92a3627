"""trainer.evaluate and trainer.predict on one small trained run."""

import csv
import io
import json
import os
import shutil
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from folders import build_shards, make_clips
from runs import quick_results
from torch import nn

from trainer import __main__, evaluate, predict
from trainer.data.loader import ClipLoader
from trainer.saved_model import load_saved
from trainer.shards.shard_set import open_shards
from trainer.shards.splits import limit_per_class
from trainer.tasks.predicting import Prediction
from trainer.tools.export import deployable
from trainer.tools.predict import open_target, write_table

SMALL = ("model.backbone=tiny", "model.lstm_hidden=8", "epochs=2", "batch_size=4", "optimizer.lr=0.003")
KINDS = {"plain": (), "reduced": ("data.frames=3", "data.size=12", "calibrate=true"), "regression": ("loss.name=mse",)}


def train(shards, out, *settings):
    overrides = [part for setting in (*SMALL, *settings) for part in ("--set", setting)]
    with quick_results():
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


def figures_in(output):
    """figure: its value, of the rows of the tables."""
    rows = [line.split() for line in output.splitlines() if line.startswith("  ")]
    return {row[0]: row[1] for row in rows if len(row) > 1}


@pytest.mark.parametrize("kind", KINDS)
def test_evaluate_repeats_the_runs_own_figures(kind, runs, shards_folder, tmp_path):
    run = runs / kind
    result = call(evaluate.main, "--run", run, "--shards", shards_folder, "--csv", tmp_path / "scores.csv")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "scores.csv").read_bytes() == (run / "results" / "test_predictions.csv").read_bytes()
    expected = json.loads((run / "results" / "experiment_results.json").read_text())["evaluation"]
    shown = figures_in(result.stdout)
    figures = {name: found["value"] for name, found in expected["clip"].items()}
    assert {name: float(shown[name]) for name in figures} == pytest.approx(figures, abs=6e-5)
    assert f"loss {expected['loss']:.4f}" in result.stdout


def test_evaluate_refuses_other_clips(run, data_folder, shards_folder, tmp_path):
    longer = build_shards(data_folder, tmp_path / "longer", frames=7)
    wrong = call(evaluate.main, "--run", run, "--shards", longer)
    assert wrong.exit_code == 1 and "frames is 7, the model was trained on 5" in wrong.output
    missing = call(evaluate.main, "--run", tmp_path, "--shards", shards_folder)
    assert missing.exit_code == 1 and "holds no models/best_model.pth" in missing.output


def test_a_test_folder_of_one_class_is_matched_by_name(run, data_folder, tmp_path):
    """There the class has the number 0, for the model 1."""
    shutil.copytree(data_folder / "test" / "b", tmp_path / "data" / "test" / "b")
    shards = build_shards(tmp_path / "data", tmp_path / "s")
    result = call(evaluate.main, "--run", run, "--shards", shards, "--csv", tmp_path / "scores.csv")
    assert result.exit_code == 0, result.output
    assert "has no class a, which the model knows" in result.stderr
    expected = read_csv((run / "results" / "test_predictions.csv").read_text())
    columns = ("source", "label", "score", "prediction")
    found, whole = (
        sorted([row[name] for name in columns] for row in rows if row["label"] == "1")
        for rows in (read_csv((tmp_path / "scores.csv").read_text()), expected)
    )
    assert found == whole and len(found) == 4
    accuracy = f"{np.mean([row[3] == '1' for row in whole]):.4f}"
    assert figures_in(result.stdout).items() >= {"auc": "undefined", "accuracy": accuracy}.items()


@pytest.mark.parametrize("kind", KINDS)
def test_a_videos_score_is_that_of_its_clip_in_the_shard(kind, runs, data_folder):
    expected = {row["source"]: row for row in read_csv((runs / kind / "results" / "test_predictions.csv").read_text())}
    result = call(predict.main, "--run", runs / kind, data_folder / "test")
    rows = read_csv(result.stdout)
    assert len(rows) == len(expected) == 8
    column = "prediction" if kind == "regression" else "score"
    assert len({row[column] for row in expected.values()}) > 4  # of clips that differ
    for row in rows:
        clip = expected[os.path.relpath(row["source"], data_folder)]
        assert abs(float(row["score"]) - float(clip[column])) <= 1e-5
        assert float(row["prediction"]) == pytest.approx(float(clip["prediction"]), abs=1e-5) and row["error"] == ""


@pytest.mark.parametrize("kind", ["reduced", "regression"])
def test_what_is_exported_gives_the_runs_scores(kind, runs, shards_folder):
    """From the clips as they are in the shards, whatever part of them the model sees."""
    ((clips, _),) = ClipLoader(shards_folder, "test", 8)
    scores, predictions = deployable(load_saved(runs / kind, torch.device("cpu")))(clips)
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
    assert np.bincount(shards.labels[parts[4]]).tolist() == [4, 4]
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
    assert list(rows[0]) == ["source", "score", "prediction", "error", "class", "confidence"]
    assert [bool(row["error"]) for row in rows] == [False, True, True]
    assert "not a video" in rows[1]["error"] and "No such file" in rows[2]["error"]


def test_names_that_are_not_utf8_and_nothing_that_can_be_read(run, data_folder, tmp_path):
    good = next((data_folder / "test" / "a").iterdir())
    odd = os.fsdecode(bytes(tmp_path) + b"/bad\xff name.mp4")
    shutil.copy(good, odd)
    result = call(predict.main, "--run", run, odd, good, "--csv", tmp_path / "out.csv")
    assert result.exit_code == 0, result.output
    rows = read_csv((tmp_path / "out.csv").read_text())
    assert [row["error"] for row in rows] == ["its name is not UTF-8; rename it", ""]
    assert "bad\\xff name.mp4" in rows[0]["source"] and float(rows[1]["score"]) <= 1
    result = call(predict.main, "--run", run, odd, "--csv", tmp_path / "out.csv")
    assert (result.exit_code, len(read_csv((tmp_path / "out.csv").read_text()))) == (1, 1)
    assert "none of 1 videos could be read" in result.stderr


def test_files_that_cannot_be_written(run, data_folder, shards_folder, tmp_path):
    """Said before anything is computed."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "x.csv", tmp_path):
        for arguments in ((evaluate.main, "--shards", shards_folder), (predict.main, data_folder / "test")):
            result = call(*arguments, "--run", run, "--csv", path)
            assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
            assert result.stderr.startswith(f"error: {path}: ")


def test_a_folder_for_the_file_is_made(run, data_folder, tmp_path):
    result = call(predict.main, data_folder / "test" / "a", "--run", run, "--csv", tmp_path / "new" / "out.csv")
    threshold = json.loads((run / "results" / "experiment_results.json").read_text())["video_threshold"]
    assert result.stderr == f"b is predicted from a score of {threshold:.6f}, chosen on validation\n"
    assert os.listdir(tmp_path / "new") == ["out.csv"], "the name that it grew under is gone"


def test_mistakes_leave_an_earlier_file_alone(run, data_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "out.csv").write_text("earlier\n")
    test = data_folder / "test"
    for arguments, message in (
        ((test, "--run", tmp_path), "holds no models/best_model.pth"),
        ((test, "--run", run, "--boxes", tmp_path / "out.csv"), "was trained on whole pictures"),
        ((test, tmp_path / "empty", "--run", run), f"no videos in {tmp_path / 'empty'}"),
    ):
        result = call(predict.main, *arguments, "--csv", tmp_path / "out.csv")
        assert result.exit_code in (1, 2) and message in result.output and result.output.count("\n") == 1
        assert sorted(os.listdir(tmp_path)) == ["empty", "out.csv"]
        assert (tmp_path / "out.csv").read_text() == "earlier\n"


def test_rows_can_be_read_as_they_come_and_outlive_an_interruption(tmp_path, capsys):
    path, part = tmp_path / "out.csv", tmp_path / "out.csv.part"
    path.write_text("earlier\n")

    def predictions():
        yield Prediction(source="a.mp4", score=1.0)
        assert part.read_text() == "source,score,prediction,error\na.mp4,1,1,\n"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), open_target(path) as file:
        write_table(file, {}, predictions(), 2)
    assert capsys.readouterr().err == f"the rows written so far are in {part}\n"
    assert "a.mp4" in part.read_text() and path.read_text() == "earlier\n"
    with open_target(path) as file:
        write_table(file, {}, [Prediction(source="b.mp4", error="damaged")], 1)
    assert path.read_text().endswith("\nb.mp4,,,damaged\n") and not part.exists()


class Crowded(nn.Module):
    """Runs out of memory, as a GPU would, on more than `most` clips at once."""

    most = 99

    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Linear(3, num_classes)

    def forward(self, clips):
        if len(clips) > Crowded.most:
            raise torch.OutOfMemoryError(f"CUDA out of memory with {len(clips)} clips")
        return self.head(clips.mean((1, 3, 4)))


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """Videos, shards with three clips of each, and a run on these that has never run out of memory."""
    folder = tmp_path_factory.mktemp("crowded")
    data = make_clips(folder / "data", {f"{split}/{name}": 2 for split in ("train", "val", "test") for name in "ab"})
    shards = build_shards(data, folder / "shards", clips=3)
    own = [part for text in (f"model.name={__name__}:Crowded", "epochs=1", "batch_size=8") for part in ("--set", text)]
    with quick_results():
        result = call(__main__.main, "--shards", shards, "--out", folder / "run", "--devices", "cpu", *own)
    assert result.exit_code == 0, result.output
    return folder


def test_where_memory_runs_out_fewer_clips_go_at_once(crowded, monkeypatch):
    of_the_run = ("--run", crowded / "run", "--model", f"{__name__}:Crowded")
    scoring = (evaluate.main, *of_the_run, "--shards", crowded / "shards")
    predicting = (predict.main, crowded / "data" / "test", *of_the_run)
    expected = [call(*scoring).stdout, call(*predicting).stdout]
    monkeypatch.setattr(Crowded, "most", 2)
    results = [call(*scoring), call(*predicting)]
    assert [result.stdout for result in results] == expected
    assert results[0].stderr.splitlines() == [f"warning: out of memory; again, in {parts} parts" for parts in (2, 4)]
    monkeypatch.setattr(Crowded, "most", 0)
    for arguments in (scoring, predicting):
        result = call(*arguments)
        assert result.exit_code == 1 and "Traceback" not in result.output
        line = result.stderr.splitlines()[-1]
        assert line.startswith("error: out of memory (CUDA out of memory with 1 clips)") and "--devices cpu" in line


def test_names_command_neither_a_spreadsheet_nor_a_terminal(tmp_path, capsys):
    prediction = Prediction(source="=1+\x1b[2J.mp4", score=-0.5)
    assert write_table(sys.stdout, {}, [prediction], 1) == (1, 0)
    (shown,) = read_csv(capsys.readouterr().out)
    assert (shown["source"], shown["score"]) == (r"'=1+\x1b[2J.mp4", "-0.5")
    with open_target(tmp_path / "out.csv") as file:
        write_table(file, {}, [prediction], 1)
    (written,) = read_csv((tmp_path / "out.csv").read_text())
    assert (written["source"], written["score"]) == ("'=1+\x1b[2J.mp4", "-0.5")


def test_a_terminal_sees_how_much_is_left(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    write_table(sys.stdout, {}, [Prediction(source=f"{i}.mp4", score=0.5) for i in range(3)], 3)
    shown = capsys.readouterr()
    assert "3/3" in shown.err and "00:00" in shown.err and len(read_csv(shown.out)) == 3
