"""Shapes, ablations, weights from files, and anybody's own model."""

import re
import sys
from pathlib import Path

import pytest
import torch
from runs import run_small
from safetensors.torch import save_file
from torch import nn

from trainer.config.load import load_settings
from trainer.config.settings import ModelSettings
from trainer.errors import SettingsError
from trainer.models.backbones import TinyResNet, make_backbone
from trainer.models.build import build_model
from trainer.models.resnet_lstm import with_differences
from trainer.tasks import task_of

CLIPS = torch.rand(2, 3, 3, 32, 32)
TRANSFORMER = {"temporal": "transformer", "lstm_hidden": 8, "attention_heads": 2}


def model_of(num_classes=2, **settings):
    torch.manual_seed(0)
    settings = {"backbone": "tiny", "weights": "none", "lstm_hidden": 8, "attention_heads": 2} | settings
    return build_model(ModelSettings(**settings), num_classes, 32).eval()


@pytest.mark.parametrize("differences", [True, False])
@pytest.mark.parametrize("lstm_hidden", [0, 8])
@pytest.mark.parametrize("attention_heads", [0, 2])
def test_every_combination_of_parts(differences, lstm_hidden, attention_heads):
    model = model_of(5, differences=differences, lstm_hidden=lstm_hidden, attention_heads=attention_heads)
    logits = model(CLIPS)
    assert logits.shape == (2, 5)
    changed = torch.autograd.grad(logits.sum(), list(model.parameters()), allow_unused=True)
    assert all(gradient is not None for gradient in changed), "a part that nothing flows through"


@pytest.mark.parametrize("pool", ["mean", "attention", "max"])
@pytest.mark.parametrize("head", ["linear", "cosine"])
@pytest.mark.parametrize("temporal", ["lstm", "transformer"])
def test_every_combination_of_kinds(temporal, head, pool):
    model = model_of(3, temporal=temporal, head=head, pool=pool)
    logits = model(CLIPS)
    assert logits.shape == (2, 3)
    changed = torch.autograd.grad(logits.sum(), list(model.parameters()), allow_unused=True)
    assert all(gradient is not None for gradient in changed), "a part that nothing flows through"


@pytest.mark.parametrize("settings", [{}, TRANSFORMER, {"pool": "attention"}])
def test_one_frame_is_enough(settings):
    assert model_of(**settings)(CLIPS[:, :1]).shape == (2, 2)


def test_only_the_parts_over_time_see_the_order():
    shuffled = CLIPS[:, [2, 0, 1]]
    frames_only = model_of(differences=False, lstm_hidden=0, attention_heads=0)
    assert torch.allclose(frames_only(CLIPS), frames_only(shuffled), atol=1e-5)
    for part in ({"differences": True}, {"lstm_hidden": 8}, TRANSFORMER):
        temporal = model_of(**({"differences": False, "lstm_hidden": 0, "attention_heads": 0} | part))
        assert not torch.allclose(temporal(CLIPS), temporal(shuffled), atol=1e-5)


def test_differences():
    features = torch.tensor([[[1.0], [4.0], [2.0]]])
    assert with_differences(features).tolist() == [[[1, 0], [4, 3], [2, 2]]]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("with_head", [True, False])
def test_weights_from_a_file(tmp_path, suffix, with_head):
    state = TinyResNet().state_dict() | ({"fc.weight": torch.ones(1000, 64)} if with_head else {})
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    backbone, features, origin = make_backbone("tiny", str(path))
    assert (features, origin) == (64, str(path))
    assert all(torch.equal(value, state[name]) for name, value in backbone.state_dict().items())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_weights_of_an_earlier_run(tmp_path, suffix, loss):
    settings = load_settings(None, ("model.backbone=tiny", "model.lstm_hidden=8", f"loss.name={loss}"))
    earlier = task_of(settings).build_model(settings.model, 3, 32)
    path = tmp_path / f"best_model{suffix}"
    state = earlier.state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save({"model": state, "settings": {}}, path)
    backbone, _, _ = make_backbone("tiny", str(path))
    assert all(torch.equal(value, backbone.state_dict()[n]) for n, value in earlier.backbone.state_dict().items())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "is not a file"),
        (lambda path: path.write_bytes(b"no weights"), "is not a readable weights file"),
        (lambda path: torch.save({"a": nn.Linear}, path), "is not a readable weights file"),
        (lambda path: torch.save({"a": torch.ones(2)}, path), "does not fit this backbone"),
        (lambda path: torch.save({"stem.0.weight": torch.ones(2)}, path), "does not fit this backbone"),
        (lambda path: torch.save([1, 2], path), "is not a readable weights file"),
    ],
    ids=["none", "text", "code", "names", "shapes", "list"],
)  # fmt: skip
def test_weights_that_cannot_be_used(tmp_path, make, message):
    path = tmp_path / "weights.pth"
    make(path)
    with pytest.raises(SettingsError, match=message):
        make_backbone("tiny", str(path))


class OwnModel(nn.Module):
    def __init__(self, num_classes, width=4):
        super().__init__()
        self.head = nn.Linear(3 * width, num_classes)
        self.width = width

    def forward(self, clips):
        return self.head(clips.mean((1, 3, 4)).repeat(1, self.width))


class Broken(nn.Module):
    def __init__(self, num_classes, how="file"):
        super().__init__()
        {"file": Path("weights.pth").read_bytes, "code": lambda: 1 / 0, "text": lambda: next(iter([]))}[how]()


class Gives(nn.Module):
    """What is not (B, K) floats."""

    def __init__(self, num_classes, what):
        super().__init__()
        self.head, self.what = nn.Linear(3, num_classes), what

    def forward(self, clips):
        logits = self.head(clips.mean((3, 4)))  # (B, T, K)
        return {"frames": logits, "one": logits.mean((1, 2)), "tuple": (logits,), "class": logits.mean(1).long()}[
            self.what
        ]


def no_module(num_classes):
    return num_classes


def test_anybodys_own_model():
    model = build_model(ModelSettings(name=f"{__name__}:OwnModel", options={"width": 2}), 3)
    assert (type(model).__name__, model.width) == ("OwnModel", 2)
    assert model(CLIPS).shape == (2, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "resnet"}, "use resnet_lstm or package.module:Class"),
        ({"name": "no.such:Model"}, "cannot be imported"),
        ({"name": f"{__name__}:Nothing"}, "cannot be imported"),
        (
            {"name": f"{__name__}:Broken"},
            r"Broken cannot be made \(FileNotFoundError in \S+\.py:\d+: .*weights\.pth",
        ),
        ({"name": f"{__name__}:Broken", "options": {"how": "code"}}, r"\(ZeroDivisionError in test_models.py:\d+: div"),
        ({"name": f"{__name__}:Broken", "options": {"how": "text"}}, r"\(StopIteration in test_models.py:\d+: \)"),
        ({"name": f"{__name__}:no_module"}, "gives a int; it must be a torch.nn.Module"),
        ({"name": f"{__name__}:OwnModel", "options": {"depth": 2}}, "does not take these model.options"),
        ({"options": {"width": 2}}, "model.options belong to custom models"),
        ({"backbone": "tiny", "lstm_hidden": 8, "attention_heads": 3}, "must divide the 16 channels"),
    ],
)
def test_models_that_cannot_be_built(settings, message):
    with pytest.raises(SettingsError, match=message):
        build_model(ModelSettings(**settings), 2)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError in .*No module named 'no_such_module'"),
        ("class Model(:", "SyntaxError"),
        ("raise OSError('no licence')", r"OSError in mine\.py:1: no licence"),
    ],
)
def test_modules_that_cannot_be_imported(tmp_path, monkeypatch, lines, reason):
    (tmp_path / "mine.py").write_text(lines)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    with pytest.raises(SettingsError, match=rf"^model\.name: mine:Model cannot be imported \(.*{reason}.*\)$"):
        build_model(ModelSettings(name="mine:Model"), 2)


@pytest.mark.parametrize("name", ["nowhere:Model", "nowhere.inside:Model"])
def test_a_module_that_is_not_found_has_a_remedy(name):
    with pytest.raises(SettingsError, match=r"; start in the folder where nowhere lies, or put .* on PYTHONPATH$"):
        build_model(ModelSettings(name=name), 2)


def test_memory_that_runs_out_in_a_constructor_is_not_the_models_fault():
    with pytest.raises(torch.OutOfMemoryError):
        build_model(ModelSettings(name=f"{__name__}:Huge"), 2)


class Huge(nn.Module):
    def __init__(self, num_classes):
        raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(
    ("what", "given"),
    [
        ("frames", r"a torch.float32 of shape \(2, 3, 4\)"),
        ("one", r"a torch.float32 of shape \(2,\)"),
        ("tuple", "a tuple"),
        ("class", r"a torch.int64 of shape \(2, 4\)"),
    ],
)
def test_outputs_that_are_no_logits(what, given):
    settings = ModelSettings(name=f"{__name__}:Gives", options={"what": what})
    message = rf"Gives maps clips of shape \(2, 3, 3, 32, 32\) to {given}; .* shape \(2, 4\)"
    with pytest.raises(SettingsError, match=message):
        build_model(settings, 4)(CLIPS)


def test_outputs_that_are_no_values(shards_folder, tmp_path):
    """In training, too, and in regression, where a model must give one value."""
    own = (f"model.name={__name__}:Gives", "model.options.what=frames")
    with pytest.raises(SettingsError, match=r"of shape \(8, 5, 1\); .* shape \(8, 1\)"):
        run_small(shards_folder, tmp_path / "run", *own, "loss.name=mse")


def test_the_documented_model(tmp_path, monkeypatch):
    page = (Path(__file__).parents[3] / "docs" / "recipes.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(# own_models\.py\n.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "own_models.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    (name, options), *others = re.findall(r"model\.name=(\S+) --set model\.options\.(\S+?)`", page)
    assert not others
    settings = load_settings(None, (f"model.name={name}", f"model.options.{options}")).model
    assert build_model(settings, 3)(CLIPS).shape == (2, 3)
