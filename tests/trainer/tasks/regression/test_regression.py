"""Learning the clips' targets: whole runs, in the targets' own unit."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from folders import FRAMES, SIZE
from runs import evaluation_of, run_small
from torch import nn

from shardify.build.build import build
from shardify.build.request import BuildRequest
from shardify.format.settings import BuildSettings
from trainer.config.load import load_settings
from trainer.errors import FormatError
from trainer.predict import main as predict
from trainer.shards.shard_set import open_shards
from trainer.tasks import task_of
from trainer.tasks.regression.regressor import Regressor
from trainer.tools.export import export

REGRESSION = task_of(load_settings(None, ("loss.name=mse",)))
SHORT = ("loss.name=mse", "epochs=4", "ema=0.2", "optimizer.lr=1e-2")


@pytest.fixture(scope="module")
def lit_folder(data_folder, tmp_path_factory):
    """Shards of one class whose targets are about 2000 for dark videos and 5000 for bright ones."""
    made = tmp_path_factory.mktemp("lit")
    lines = ["path,class,split,target"]
    for i, path in enumerate(sorted(data_folder.rglob("*.mkv"))):
        name = path.relative_to(data_folder)
        target = (2000 if name.parts[1] == "a" else 5000) + 10 * (i % 7)
        lines.append(f"{name},face,{name.parts[0]},{target}")
    (made / "videos.csv").write_text("\n".join(lines) + "\n")
    settings = BuildSettings(frames=FRAMES, size=SIZE, shard_size=8)
    build(BuildRequest(data_folder, made / "shards", settings, manifest=made / "videos.csv", workers=1))
    return made / "shards"


@pytest.fixture(scope="module")
def finished(lit_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return out, run_small(lit_folder, out, *SHORT)


def test_a_run_ends_with_figures_in_the_targets_unit(finished):
    out, record = finished
    assert record["settings"]["metric"] == record["metric"] == "mae"
    assert record["test"]["mae"] < 500
    assert record["test"]["r2"] > 0.9
    with (out / "results" / "training_history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["train_mae"]) < float(rows[0]["train_mae"])
    best = min(rows, key=lambda row: float(row["val_mae"]))
    assert record["best_epoch"] == int(best["epoch"])
    with (out / "results" / "test_predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    errors = [abs(float(row["prediction"]) - float(row["target"])) for row in rows]
    assert np.mean(errors) == pytest.approx(record["test"]["mae"], rel=1e-4)


def test_the_saved_model_gives_the_same_figures(finished, lit_folder, tmp_path):
    out, record = finished
    found = evaluation_of(out, lit_folder, csv=tmp_path / "scores.csv")
    assert found == record["evaluation"]
    assert found["clip"]["mae"]["value"] == record["test"]["mae"]
    assert found["clip"]["mae"]["interval"] == record["test_intervals"]["mae"]
    assert (found["classes"], found["kinds"], found["calibration"]) == ({}, {}, {})
    assert (tmp_path / "scores.csv").read_text() == (out / "results" / "test_predictions.csv").read_text()


def test_the_exported_model_gives_values(finished, tmp_path):
    assert export(finished[0], "safetensors", tmp_path / "model") < 1


def test_raw_videos_get_values(finished, data_folder):
    video = next((data_folder / "test" / "b").iterdir())
    result = CliRunner().invoke(predict, [str(video), "--run", str(finished[0]), "--devices", "cpu"])
    assert result.exit_code == 0, result.output
    (row,) = csv.DictReader(result.stdout.splitlines())
    assert 4000 < float(row["prediction"]) < 6000


def test_going_on(finished, lit_folder, tmp_path):
    run_small(lit_folder, tmp_path / "run", *SHORT, "epochs=1")
    record = run_small(lit_folder, tmp_path / "run", *SHORT, resume=True)
    assert record["test"] == finished[1]["test"]
    assert json.loads((tmp_path / "run" / "results" / "experiment_results.json").read_text()) == record


def test_one_class_has_nothing_to_classify(lit_folder, tmp_path):
    with pytest.raises(FormatError, match=r"has one class, face.*loss\.name=mse"):
        run_small(lit_folder, tmp_path / "run")


def test_class_numbers_as_targets_are_noted(shards_folder, lit_folder):
    for folder, noted in ((shards_folder, True), (lit_folder, False)):
        notes = REGRESSION.notes(open_shards(folder), {})
        assert bool(notes) == noted


def test_targets_that_are_no_numbers(lit_folder):
    shards = open_shards(lit_folder)
    samples = np.array(shards.samples)
    samples["target"][3] = np.nan
    damaged = dataclasses.replace(shards, samples=samples)
    with pytest.raises(FormatError, match=f"clip {shards.key(3)}: its target is nan"):
        REGRESSION.labels(damaged)


@pytest.mark.parametrize(("name", "expected"), [("mse", [1.0, 4.0]), ("l1", [1.0, 2.0])])
def test_losses_by_hand(name, expected):
    model = Regressor(nn.Identity())
    model.fit(np.array([90.0, 110.0]))
    task = task_of(load_settings(None, (f"loss.name={name}",)))
    loss = task.build_loss(model, np.zeros(2), torch.device("cpu"))
    losses = loss(torch.tensor([[110.0], [80.0]]), torch.tensor([100.0, 100.0], dtype=torch.float64))
    assert losses.tolist() == pytest.approx(expected)


def test_outputs_are_scaled_to_the_targets():
    model = Regressor(nn.Identity())
    model.fit(np.array([10.0, 30.0]))
    assert model(torch.tensor([[0.0], [1.0]])).tolist() == [[20.0], [30.0]]
    model.fit(np.array([7.0, 7.0]))
    assert model(torch.tensor([[0.0]])).tolist() == [[7.0]]
