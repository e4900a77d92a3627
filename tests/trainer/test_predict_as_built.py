"""trainer.predict does what the build did: boxes, several clips of a video, and a threshold for their mean."""

import csv
import io
import json
import math
from collections import defaultdict

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from media import write_video
from runs import run_small
from torch import nn

from shardify.cli.main import main as shardify
from trainer import evaluate, load_model, predict
from trainer.config.load import load_settings
from trainer.errors import TrainerError
from trainer.evaluation.metrics import mean_by_video
from trainer.evaluation.predictions import Predictions
from trainer.saved_model import load_saved
from trainer.tasks import task_of
from trainer.tools.raw_clips import find_inputs
from trainer.transforms.clips import MEAN, STD

OWN = f"{__name__}:Brightness"
BOX = "8,8,16,16"
# The scores that the three clips of a video are made to get. Of single clips, 0.55 parts the classes best, of their
# means 0.45. The mean of the logits of `sure` lies above 0, the mean of its probabilities below both.
VIDEOS = {
    "val/b/high.mkv": (0.9, 0.1, 0.8), "val/a/low.mkv": (0.3, 0.3, 0.3), "test/b/between.mkv": (0.98, 0.3, 0.19),
    "test/a/low.mkv": (0.2, 0.1, 0.3), "train/a/low.mkv": (0.1, 0.2, 0.3), "train/b/high.mkv": (0.9, 0.8, 0.7),
    "test/a/sure.mkv": (0.999, 0.05, 0.05),
}  # fmt: skip


class Brightness(nn.Module):
    """Score 0 for black, 1 for white, and the logistic curve between them; whatever it is trained on."""

    def __init__(self, num_classes):
        super().__init__()
        self.steepness = nn.Parameter(torch.tensor(16.0))

    def forward(self, clips):
        mean, deviation = (torch.tensor(values, device=clips.device).view(3, 1, 1) for values in (MEAN, STD))
        grey = (clips * deviation + mean).mean((1, 2, 3, 4)) - 0.5
        return torch.stack([torch.zeros_like(grey), self.steepness * grey], 1)


def pictures(scores):
    """Nine pictures, three per clip, grey as the score wants it inside BOX and white around it."""
    for score in scores:
        picture = np.full((32, 32, 3), 255, np.uint8)
        picture[8:24, 8:24] = round(255 * (0.5 + math.log(score / (1 - score)) / 16))
        yield from [picture] * 3


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Videos, a box for each, shards of three clips each that are cut to them, and a run; one more video has no box."""
    folder = tmp_path_factory.mktemp("boxed")
    for name, scores in VIDEOS.items():
        (folder / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(folder / "data" / name, pictures(scores), codec="ffv1", pixel_format="bgr0")
    rows = [f"{name},{BOX}" for name in VIDEOS]
    (folder / "boxes.csv").write_text("\n".join(["path,x,y,width,height", *rows]) + "\n")
    settings = ("--frames", 3, "--size", 16, "--clips", 3, "--codec", "raw", "--workers", 1)
    done = call(shardify, "build", folder / "data", folder / "shards", "--boxes", folder / "boxes.csv", *settings)
    assert done.exit_code == 0, done.output
    run_small(folder / "shards", folder / "run", f"model.name={OWN}", "epochs=1", "optimizer.lr=1e-9")
    write_video(folder / "data" / "test/a/boxless.mkv", pictures((0.5,) * 3), codec="ffv1", pixel_format="bgr0")
    return folder


def call(command, *arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def predictions(made, *videos, boxes="boxes.csv"):
    """source below data/ → row."""
    arguments = ("--run", made / "run", "--model", OWN, "--boxes", made / boxes, "--workers", 1)
    result = call(predict.main, *videos, *arguments)
    assert result.exit_code == 0, result.output
    rows = csv.DictReader(io.StringIO(result.stdout))
    return {row["source"].removeprefix(f"{made / 'data'}/"): row for row in rows}


def test_a_videos_score_is_the_mean_of_its_clips_probabilities_in_the_shards(made):
    table, clips = made / "scores.csv", defaultdict(list)
    result = call(evaluate.main, "--run", made / "run", "--model", OWN, "--shards", made / "shards", "--csv", table)
    assert result.exit_code == 0, result.output
    for row in csv.DictReader(table.open()):
        clips[row["source"]].append(float(row["score"]))
    found = predictions(made, made / "data")
    assert clips.keys() == {name for name in VIDEOS if name.startswith("test/")}
    for name, scores in clips.items():
        assert sorted(scores) == pytest.approx(sorted(VIDEOS[name]), abs=0.02), "the video is cut to its box"
        assert float(found[name]["score"]) == pytest.approx(np.mean(scores), abs=1e-6)


def test_a_video_is_judged_at_the_threshold_of_videos(made):
    saved = load_saved(made / "run", torch.device("cpu"), OWN)
    assert (saved.threshold, saved.video_threshold) == (pytest.approx(0.55, abs=0.01), pytest.approx(0.45, abs=0.01))
    record = json.loads((made / "run" / "results" / "experiment_results.json").read_text())
    assert (record["threshold"], record["video_threshold"]) == (saved.threshold, saved.video_threshold)
    found = predictions(made, made / "data")
    assert {name: row["prediction"] for name, row in found.items() if name.startswith("test/")} == {
        "test/a/boxless.mkv": "", "test/a/low.mkv": "0", "test/a/sure.mkv": "0", "test/b/between.mkv": "1",
    }  # fmt: skip
    assert saved.video_threshold < float(found["test/b/between.mkv"]["score"]) < saved.threshold


def test_one_clip_of_a_video_has_one_threshold():
    logits = np.array([[0, -1], [0, 2], [0, 0], [0, 1]], np.float32)
    validation = Predictions(np.arange(4), np.array([0, 1, 0, 1]), logits, 0.5)
    found = task_of(load_settings()).fit_scores(validation, np.array([b"d", b"c", b"b", b"a"]))
    assert found["threshold"] == pytest.approx((1 / (1 + math.exp(-1)) + 0.5) / 2)
    assert found["video_threshold"] == found["threshold"]


def test_means_by_video():
    labels, scores = mean_by_video(
        np.array([b"y", b"x", b"y", b"y"]), np.array([1, 0, 1, 1]), np.array([[0.5, 0.5], [1, 0], [0, 1], [0.4, 0.6]])
    )
    assert labels.tolist() == [0, 1]
    assert scores == pytest.approx(np.array([[1, 0], [0.3, 0.7]]))


def test_a_video_without_a_box_has_a_row_with_the_reason(made):
    found = predictions(made, made / "data")
    reason = "has no row in the boxes file; add one, or take the video out (path test/a/boxless.mkv)"
    row = found.pop("test/a/boxless.mkv")
    assert (row["error"], row["score"], row["prediction"]) == (reason, "", "")
    assert not any(row["error"] for row in found.values())


def test_one_row_of_boxes_is_no_box_of_two_videos(made):
    (made / "names.csv").write_text(f"path,x,y,width,height\nlow.mkv,{BOX}\nhigh.mkv,{BOX}\n")
    files = [made / "data" / name for name in ("test/a/low.mkv", "val/a/low.mkv", "train/b/high.mkv")]
    found = predictions(made, *files, files[2], boxes="names.csv")
    assert [bool(found[name]["error"]) for name in ("test/a/low.mkv", "val/a/low.mkv", "train/b/high.mkv")] == [1, 1, 0]
    assert "several videos here are low.mkv" in found["val/a/low.mkv"]["error"]


def test_a_run_on_boxes_needs_them(made):
    result = call(predict.main, made / "data", "--run", made / "run", "--model", OWN)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert "was trained on clips cut to boxes; pass those of these with --boxes" in result.stderr


def test_a_model_on_boxes_that_is_called(made):
    model, path = load_model(made / "run", model_class=OWN), made / "data" / "test/a/low.mkv"
    (found,) = model.predict([path, path], boxes=made / "boxes.csv")[:1]
    assert "has no row in the boxes file" in found.error, "a file alone is matched by its name"
    (made / "one.csv").write_text(f"path,x,y,width,height\nlow.mkv,{BOX}\n")
    assert model.predict(path, boxes=made / "one.csv").clips == pytest.approx(VIDEOS["test/a/low.mkv"], abs=0.02)
    with pytest.raises(TrainerError, match=r"boxes; pass frames that are cut like these, uint8 \(3, 16, 16, 3\)"):
        model.predict(np.zeros((9, 32, 32, 3), np.uint8))
    assert model.predict(np.full((3, 16, 16, 3), 255, np.uint8)).score > 0.99


def test_videos_behind_links_have_a_row_or_are_counted(tmp_path, capsys):
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool/a.mp4").touch()
    (tmp_path / "data/own").mkdir(parents=True)
    (tmp_path / "data/own/b.mp4").touch()
    (tmp_path / "pool/in").symlink_to(tmp_path / "data/own")
    for name in ("one", "two"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "pool")
    found = [task.source for task, _ in find_inputs([tmp_path / "data"], None)]
    assert found == [str(tmp_path / "data" / name) for name in ("one/a.mp4", "own/b.mp4", "two/a.mp4")]
    assert "not followed: 2 links inside linked folders, to 2 videos" in capsys.readouterr().err
