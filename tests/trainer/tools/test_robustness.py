"""A model on degraded clips: the figures of clips that were degraded one by one, and what is written of them."""

import csv
import json
import threading

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from runs import ALONE, CPU, quick_results, run_small

from trainer.data.loader import ClipLoader
from trainer.evaluate import main as evaluate
from trainer.saved_model import load_saved
from trainer.shards.shard_set import open_shards
from trainer.tools import robustness
from trainer.tools.scoring import score
from trainer.transforms.clips import normalise, to_float
from trainer.transforms.degrade import batch_noise


@pytest.fixture(scope="module")
def evaluated(shards_folder, tmp_path_factory):
    """A run that learned targets, whose main figure is an error, and what one command has printed and written on it."""
    root = tmp_path_factory.mktemp("robust")
    run_small(shards_folder, root / "run", "epochs=1", "batch_size=5", "loss.name=mse")
    some = {
        name: robustness.Degradation(robustness.DEGRADATIONS[name].apply, (0, most), none=0)
        for name, most in (("blur", 3), ("noise", 0.2))
    }
    arguments = ["--run", root / "run", "--shards", shards_folder, "--robustness", "--out", root / "out"]
    with quick_results(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(robustness, "DEGRADATIONS", some)
        patch.setattr(robustness, "AT_ONCE", 2)
        result = CliRunner().invoke(evaluate, [str(argument) for argument in (*arguments, "--devices", "cpu")])
    assert result.exit_code == 0, result.output
    return root, result


def test_a_degraded_figure_is_that_of_clips_degraded_one_by_one(evaluated, shards_folder):
    root, _ = evaluated
    record = json.loads((root / "out/evaluation.json").read_text())["data_sets"]["shards"]
    saved, loader = load_saved(root / "run", CPU), ClipLoader(shards_folder, "test", 1)
    targets, values = loader.shards.labels[loader.numbers], []
    for batch in loader.batches(0):
        seeds = torch.from_numpy(batch.numbers.astype(np.int32))
        noisy = batch_noise(to_float(batch.clips), torch.tensor([0.2]), seeds).mul(255).round().to(torch.uint8)
        with torch.inference_mode():
            values.append(saved.model(normalise(to_float(noisy))).item())
    found = record["robustness"]["noise"]
    assert found["0.2"]["clip"] == found["0.2"]["video"] == pytest.approx(np.abs(targets - values).mean(), rel=1e-5)
    assert found["0"]["clip"] == record["clip"]["mae"]["value"] != found["0.2"]["clip"]


def test_progress_and_tables(evaluated):
    root, result = evaluated
    assert "shards: blur 3, 1 of 2 passes, " in result.stderr
    with (root / "out/robustness.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["degradation"], row["strength"], row["level"]) for row in rows] == [
        (name, strength, level)
        for name, strength in (("blur", "0"), ("blur", "3"), ("noise", "0"), ("noise", "0.2"))
        for level in ("clip", "video")
    ]
    assert f"  noise        0.2       {float(rows[-1]['mae']):.4f}" in result.stdout
    assert (root / "out/robustness.png").exists() and not (root / "out/roc.png").exists()


class Unspeakable(float):
    """A strength of which no line can be said: an error between two passes."""

    def __format__(self, spec):
        raise ArithmeticError(spec)


def test_an_error_leaves_no_thread_behind(evaluated, shards_folder, monkeypatch):
    root, _ = evaluated
    same = robustness.Degradation(lambda clips, *_: clips, (Unspeakable(1),))
    monkeypatch.setattr(robustness, "DEGRADATIONS", {"none": same})
    saved = load_saved(root / "run", CPU)
    data_set, before = score(saved, "shards", open_shards(shards_folder), "test", ALONE), set(threading.enumerate())
    with pytest.raises(ArithmeticError) as kept:  # and with it all that its frames hold
        robustness.robustness(saved, data_set, "test", ALONE)
    assert kept.tb and not set(threading.enumerate()) - before
