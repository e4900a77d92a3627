"""Weights from files: in the usual wrappers, and of whole models."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from trainer.config.load import load_settings
from trainer.config.settings import ModelSettings
from trainer.errors import SettingsError
from trainer.models.backbones import TinyResNet, make_backbone
from trainer.models.build import build_model
from trainer.models.weights import read_weights
from trainer.tasks import task_of

STATE = TinyResNet().state_dict()


def make_model(weights="none", num_classes=2, **settings):
    small = {"backbone": "tiny", "lstm_hidden": 8, "attention_heads": 2} | settings
    return build_model(ModelSettings(weights=str(weights), **small), num_classes, 32)


def same_parts(model, other):
    """The parts whose tensors are those of the other model."""
    state, own = other.state_dict(), model.state_dict()
    differing = {name for name, value in own.items() if name not in state or not torch.equal(value, state[name])}
    return {name.partition(".")[0] for name in own} - {name.partition(".")[0] for name in differing}


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state_dict", "model", "model_ema"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "encoder.", "module.backbone."])
def test_wrappers_and_prefixes_of_others(tmp_path, wrapper, prefix):
    state = {f"{prefix}{name}": value for name, value in STATE.items()} | {f"{prefix}fc.bias": torch.ones(7)}
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "x.pth")
    backbone, _, _ = make_backbone("tiny", str(tmp_path / "x.pth"))
    assert all(torch.equal(value, STATE[name]) for name, value in backbone.state_dict().items())


def test_what_does_not_fit_is_named_on_both_sides(tmp_path):
    torch.save({"conv1.weight": torch.ones(2)}, tmp_path / "x.pth")
    with pytest.raises(
        SettingsError, match=r"\d+ tensors missing, 1 unknown; .*without stem\.0\.weight, with conv1\.w"
    ):
        make_backbone("tiny", str(tmp_path / "x.pth"))


@pytest.fixture
def earlier(tmp_path):
    """A run's folder with the model of two classes, and that model."""
    model = make_model()
    (tmp_path / "run" / "models").mkdir(parents=True)
    torch.save({"model": model.state_dict(), "settings": {}}, tmp_path / "run" / "models" / "best_model.pth")
    return tmp_path / "run", model


@pytest.mark.parametrize("file", ["", "models/best_model.pth"])
def test_a_warm_start_of_the_whole_model(earlier, file):
    run, model = earlier
    found = make_model(run / file)
    assert same_parts(found, model) == {"backbone", "lstm", "norm", "attention", "head"}
    assert found.weights_origin == f"{run / file} (the whole model; its head by the classes' numbers)"


@pytest.mark.parametrize(
    ("changes", "new"),
    [
        ({"num_classes": 3}, "head"),
        ({"lstm_hidden": 4}, "attention, head, lstm, norm"),
        ({"attention_heads": 0}, None),
    ],
)
def test_parts_that_do_not_fit_are_new_and_named(earlier, changes, new, caplog):
    run, model = earlier
    found = make_model(run, **changes)
    parts = {name.partition(".")[0] for name in found.state_dict()}
    lost = set(new.split(", ")) if new else set()
    assert same_parts(found, model) == parts - lost
    words = (
        f"{', '.join(sorted(parts - lost))}; new: {new}" if new else "the whole model; its head by the classes' numbers"
    )
    assert found.weights_origin == f"{run} ({words})" and f"weights: {run} ({words})" in caplog.text


def test_from_classes_to_values_and_back(earlier, tmp_path):
    """A regressor's model stands inside it; both find each other's parts."""
    run, model = earlier
    settings = load_settings(
        None, ("model.backbone=tiny", "model.lstm_hidden=8", "model.attention_heads=2", "loss.name=mse")
    )
    task = task_of(settings)
    regressor = task.build_model(make_settings(settings, run), 2, 32)
    assert same_parts(regressor.model, model) == {"backbone", "lstm", "norm", "attention"}
    torch.save(regressor.state_dict(), tmp_path / "r.pth")
    assert same_parts(make_model(tmp_path / "r.pth"), model) == {"backbone", "lstm", "norm", "attention"}
    again = task.build_model(make_settings(settings, tmp_path / "r.pth"), 2, 32)
    assert again.weights_origin == f"{tmp_path / 'r.pth'} (the whole model; its head by the classes' numbers)"


def make_settings(settings, weights: Path) -> ModelSettings:
    return ModelSettings(**{**settings.to_dict()["model"], "weights": str(weights)})


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "anything.pth"])
def test_a_folder_with_a_weights_file(tmp_path, name):
    """As a data set or a model at Kaggle has it, or a copy from the hub."""
    (tmp_path / "config.json").write_text("{}")
    save_file(STATE, tmp_path / name) if name.endswith(".safetensors") else torch.save(STATE, tmp_path / name)
    found = read_weights(tmp_path)
    assert found.keys() == STATE.keys()
    torch.save({}, tmp_path / "other.pth")
    if name == "anything.pth":
        with pytest.raises(SettingsError, match=r"holds 2 weights files \(anything\.pth, …\); name one of them"):
            read_weights(tmp_path)
    else:
        assert read_weights(tmp_path).keys() == STATE.keys()


def test_a_folder_without_weights(tmp_path):
    with pytest.raises(SettingsError, match=r"holds no weights file, nor is it a run's folder with models/best_model"):
        read_weights(tmp_path)
