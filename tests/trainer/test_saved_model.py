"""A run that somebody else has made: nothing in its files runs code, whatever they say."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from trainer import evaluate, export, predict
from trainer.config.load import load_settings
from trainer.engine.checkpoint import Progress, load_newest, save_checkpoint
from trainer.errors import SettingsError, TrainerError
from trainer.models.backbones import make_backbone
from trainer.saved_model import load_saved, settle_best_model

CPU = torch.device("cpu")
MODULE = """
from pathlib import Path
from torch import nn

Path("ran").touch()


class Model(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Linear(3, num_classes)

    def forward(self, clips):
        return self.head(clips.mean((1, 3, 4)))
"""


def save_run(folder, shards, name="stranger:Model", **changes):
    """models/best_model.pth of a run on these shards whose model is of the class `name`."""
    build = json.loads((shards / "index.json").read_text())["settings"]
    settings = load_settings(None, ("batch_size=4",)).to_dict()
    settings["model"]["name"] = name
    about = {"settings": settings, "classes": ["a", "b"], "build": build, "class_counts": [5, 5]}
    about |= {"frames": 5, "size": 16, "stored_frames": 5, "stored_size": 16, "threshold": 0.5, "video_threshold": 0.5}
    weights = {"head.weight": torch.ones(2, 3), "head.bias": torch.zeros(2)}
    (folder / "models").mkdir(parents=True, exist_ok=True)
    torch.save({"model": weights, **about, **changes}, folder / "models" / "best_model.pth")
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working folder, where Python finds a module of the stranger's, as after `python -m`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("stranger", "moved"):
        (tmp_path / f"{name}.py").write_text(MODULE)
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


@pytest.fixture(params=["evaluate", "predict", "export"])
def use(request, here, shards_folder, data_folder):
    """Run each command that opens a run, with these arguments beside those that it needs."""
    video = next((data_folder / "test" / "a").iterdir())
    command, needed = {
        "evaluate": (evaluate.main, ["--shards", shards_folder]),
        "predict": (predict.main, [video, "--workers", 1]),
        "export": (export.main, ["--format", "safetensors", "--out", here / "out"]),
    }[request.param]

    def run(*arguments):
        return CliRunner().invoke(command, ["--run", "run", *map(str, [*needed, *arguments])])

    return run


@pytest.mark.parametrize("name", ["stranger:Model", "unittest:main"])
def test_the_class_of_a_custom_model_is_named_by_the_user_alone(name, use, here, shards_folder):
    """Wherever its module lies: what is installed runs things, too."""
    save_run(here / "run", shards_folder, name)
    result = use()
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith("error: run/models/best_model.pth: its model is the custom class ")
    assert f"pass --model {name}, in the folder of its module or with that folder on PYTHONPATH" in result.stderr
    assert not (here / "ran").exists()


def test_the_named_class_is_used(use, here, shards_folder):
    """Also where it has moved to another module since."""
    save_run(here / "run", shards_folder)
    result = use("--model", "moved:Model")
    assert result.exit_code == 0, result.output
    assert (here / "ran").exists() and "stranger" not in sys.modules


def test_mistakes_in_the_name(here, shards_folder):
    save_run(here / "run", shards_folder)
    for name, message in (
        ("moved", "model.name is 'moved'; use resnet_lstm or package.module:Class"),
        ("nowhere:Model", "start in the folder where nowhere lies, or put that folder on PYTHONPATH"),
        ("moved:Other", "cannot be imported"),
        ("torch.nn:Identity", r"does not fit torch\.nn:Identity as it is here"),
    ):
        with pytest.raises(TrainerError, match=message):
            load_saved(here / "run", CPU, name)
    save_run(here / "run", shards_folder, "resnet_lstm")
    with pytest.raises(SettingsError, match="its model is resnet_lstm, no custom class; leave --model out"):
        load_saved(here / "run", CPU, "moved:Model")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"model": {"name": "a:b; reboot"}}}, "model.name is 'a:b; reboot'"),
        ({"settings": {"model": {"name": "a:b\x1b[2J"}}}, r"model.name is 'a:b\\x1b\[2J'"),
        ({"settings": []}, "it is a group of settings"),
        ({"classes": 3}, "classes is of type int"),
        ({"build": None}, "build is of type NoneType"),
        ({"video_threshold": "low"}, "video_threshold is of type str"),
        ({"model": 3}, "model is not a dict of tensors by name"),
        ({"model": [torch.ones(1)]}, "model is not a dict of tensors by name"),
        ({"model": {1: torch.ones(1)}}, "model is not a dict of tensors by name"),
        ({"model": {"head.bias": [0.0]}}, "model is not a dict of tensors by name"),
    ],
)
def test_files_that_are_no_runs(changes, message, tmp_path, shards_folder):
    save_run(tmp_path / "run", shards_folder, **changes)
    with pytest.raises(TrainerError, match=rf"best_model\.pth: cannot be read \(.*{message}") as caught:
        load_saved(tmp_path / "run", CPU)
    assert "\n" not in str(caught.value)


def test_settings_of_which_no_memory_holds_the_model(tmp_path, shards_folder):
    save_run(tmp_path / "run", shards_folder, settings={"model": {"backbone": "tiny", "lstm_hidden": 10**9}})
    with pytest.raises(TrainerError, match=r"best_model\.pth: does not fit resnet_lstm as it is here \(") as caught:
        load_saved(tmp_path / "run", CPU)
    assert isinstance(caught.value.__cause__, RuntimeError) and "\n" not in str(caught.value)


def test_a_file_without_weights(tmp_path, shards_folder):
    path = save_run(tmp_path / "run", shards_folder) / "models" / "best_model.pth"
    saved = torch.load(path)
    torch.save({name: value for name, value in saved.items() if name != "model"}, path)
    with pytest.raises(TrainerError, match=r"best_model\.pth: cannot be read \('model'\)"):
        load_saved(tmp_path / "run", CPU)


def test_a_build_that_is_not_known_here(here, shards_folder, data_folder):
    save_run(here / "run", shards_folder, build={"colours": "all"})
    result = CliRunner().invoke(predict.main, ["--run", "run", "--model", "moved:Model", str(data_folder / "test")])
    assert (result.exit_code, result.output.count("\n")) == (1, 1) and "unexpected keyword" in result.output


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_nothing_is_unpickled_but_tensors_and_plain_values(tmp_path, shards_folder):
    """Whoever reads the file: a run, its checkpoints, its weights for another run."""
    made = tmp_path / "made"
    run = save_run(tmp_path / "run", shards_folder, "resnet_lstm", build=Payload(made))
    save_checkpoint(run / "checkpoints", {"model": Payload(made)}, 1, 1)
    path = run / "models" / "best_model.pth"
    for read in (
        lambda: load_saved(run, CPU),
        lambda: settle_best_model(run, Progress(best_epoch=1)),
        lambda: make_backbone("tiny", str(path)),
        lambda: load_newest(run / "checkpoints"),
    ):
        with pytest.raises(TrainerError) as caught:
            read()
        assert not made.exists() and "\n" not in str(caught.value) and ".pth" in str(caught.value)
    with pytest.raises(FileExistsError):  # that it would have
        made.mkdir()
        torch.load(path, weights_only=False)
