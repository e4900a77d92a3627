"""The recipe for deepfakes as a whole run: its config works, a stopped run goes on, and says what it could not pair."""

from pathlib import Path

import pytest
import torch
from folders import build_shards, make_clips
from runs import Stopping, best_weights, history, run_small

from trainer.config.load import flatten, load_settings
from trainer.errors import Interrupted, SettingsError

CONFIG = Path(__file__).parents[2] / "configs" / "deepfake.yaml"
WHOLE = ("model.name=runs:Stopping", "optimizer.sam_rho=0.05")


@pytest.fixture(scope="module")
def deepfakes(tmp_path_factory):
    """Shards of 6 real and 10 fake videos to train on."""
    root = tmp_path_factory.mktemp("deepfakes")
    layout = {"train/real": 6, "train/fake": 10, "val/real": 2, "val/fake": 2}
    return build_shards(make_clips(root / "data", layout), root / "shards")


@pytest.fixture(scope="module")
def recipe():
    """The settings of the config that are about clips, as --set takes them."""
    settings = flatten(load_settings(CONFIG).to_dict())
    return [f"{name}={value}" for name, value in settings.items() if name.startswith(("augment.", "data.pairs"))]


def test_a_run_by_the_recipe_goes_on_bit_for_bit(deepfakes, recipe, tmp_path, monkeypatch):
    record = run_small(deepfakes, tmp_path / "whole", *recipe, *WHOLE)
    assert any(note.startswith("data.pairs: 0 of 10 fakes stand beside their original") for note in record["notes"])
    monkeypatch.setattr(Stopping, "stop_at", 2 * 2)  # forward passes, two a step
    with pytest.raises(Interrupted, match="epoch 2, step 1"):
        run_small(deepfakes, tmp_path / "stopped", *recipe, *WHOLE)
    run_small(deepfakes, tmp_path / "stopped", *recipe, *WHOLE, resume=True)
    assert history(tmp_path / "stopped") == history(tmp_path / "whole")
    expected = best_weights(tmp_path / "whole")
    assert all(torch.equal(value, expected[name]) for name, value in best_weights(tmp_path / "stopped").items())


@pytest.mark.parametrize("override", ["data.pairs=true", "augment.self_blend=0.5"])
def test_classes_that_are_not_real_and_fake_are_refused(shards_folder, tmp_path, override):
    with pytest.raises(SettingsError, match="needs two classes, one named real and one fake"):
        run_small(shards_folder, tmp_path / "run", override)


def test_pairs_and_class_weights_are_refused(deepfakes, tmp_path):
    with pytest.raises(SettingsError, match=r"data.pairs and loss.class_weights both change"):
        run_small(deepfakes, tmp_path / "run", "data.pairs=true", "loss.class_weights=true")
