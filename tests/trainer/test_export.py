import contextlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from folders import build_shards, make_clips
from media import numbered_video, read_number
from runs import run_small
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from shardify.video.sampling import plan_constant_rate
from trainer import load_model
from trainer.config.load import load_settings
from trainer.errors import SettingsError
from trainer.export import main
from trainer.models.build import build_model
from trainer.saved_model import load_saved
from trainer.tools.export import deployable, export
from trainer.tools.quantise import quantise
from trainer.transforms.device_constants import _made


def make_run(out, *kinds):
    """A run's folder with a model of random weights and a threshold."""
    settings = load_settings(None, ("model.weights=none", "model.lstm_hidden=8", *kinds))
    torch.manual_seed(0)
    weights = build_model(settings.model, 2, 16).state_dict()
    about = {"settings": settings.to_dict(), "classes": ["real", "fake"], "build": {}}
    about |= {"frames": 4, "size": 16, "stored_frames": 6, "stored_size": 24}
    about |= {"class_counts": [5, 5], "threshold": 0.25, "video_threshold": 0.5}
    (out / "models").mkdir()
    torch.save({"model": weights, **about}, out / "models" / "best_model.pth")
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"), "model.backbone=tiny")


@pytest.fixture(autouse=True)
def no_constants_yet():
    """As in a process that does nothing but export."""
    _made.cache_clear()


@pytest.mark.parametrize("kind", ["safetensors", "onnx"])
def test_exported_scores_are_the_models(run, kind, tmp_path):
    if kind == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    arguments = ["--run", str(run), "--format", kind, "--out", str(tmp_path / f"model.{kind}")]
    if kind == "onnx":
        layout = {f"{split}/{name}": 4 for split in ("train", "val") for name in ("real", "fake")}
        shards = build_shards(make_clips(tmp_path / "data", layout), tmp_path / "shards", frames=6, size=24)
        arguments += ["--quantise", "--shards", str(shards)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "scores differ from the run's by at most" in result.output
    assert (tmp_path / f"model.{kind}").stat().st_size > 100_000
    if kind == "onnx":
        import onnxruntime

        about = onnxruntime.InferenceSession(tmp_path / "model.onnx").get_modelmeta().custom_metadata_map
        assert (json.loads(about["classes"]), json.loads(about["threshold"])) == (["real", "fake"], 0.25)
        check_documented_use("# with onnxruntime", run, tmp_path)
        check_int8(tmp_path, result.output)


def check_int8(folder, printed):
    """The int8 model is smaller, has int8 operators and gives nearly the same scores; both have their figures."""
    import onnx
    import onnxruntime

    whole, small = folder / "model.onnx", folder / "model-int8.onnx"
    assert small.stat().st_size < 0.7 * whole.stat().st_size
    kinds = [node.op_type for node in onnx.load(small).graph.node]
    assert kinds.count("QuantizeLinear") > 5
    clips = np.random.default_rng(0).integers(0, 256, (5, 6, 3, 24, 24), np.uint8)
    scores = [onnxruntime.InferenceSession(path).run(["scores"], {"clips": clips})[0] for path in (whole, small)]
    assert 0 < np.abs(scores[0] - scores[1]).max() < 0.05
    assert "on 8 clips of validation" in printed and "model.onnx  model-int8.onnx" in printed
    assert [len(line.split()) for line in printed.splitlines() if line.split()[:1] == ["accuracy"]] == [3]


def test_int8_needs_onnx_and_the_shards(run, tmp_path):
    result = CliRunner().invoke(main, ["--run", str(run), "--format", "torch", "--quantise"])
    assert (result.exit_code, result.output) == (2, "error: --quantise is for --format onnx, not for torch\n")
    with pytest.raises(SettingsError, match="does not say on which shards"):
        quantise(run, tmp_path / "model.onnx", ())


def test_the_program_needs_nothing_but_torch_and_uint8_clips(tmp_path):
    """Of a model of timm with pixels of its own, and all that stands in place of the default parts."""
    kinds = ("backbone=test_vit", "temporal=transformer", "pool=attention", "head=cosine")
    run = make_run(tmp_path, *(f"model.{kind}" for kind in kinds))
    result = CliRunner().invoke(main, ["--run", str(run), "--format", "torch", "--out", str(tmp_path / "model.pt2")])
    assert "scores differ from the run's by at most" in result.output, result.output
    extra = {"classes.json": "", "threshold.json": ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=extra).module()
    assert (json.loads(extra["classes.json"]), json.loads(extra["threshold.json"])) == (["real", "fake"], 0.25)
    clips = torch.randint(0, 256, (5, 6, 3, 24, 24), dtype=torch.uint8)
    scores, predictions = program(clips)
    assert torch.allclose(scores.sum(1), torch.ones(5))
    assert torch.equal(predictions, (scores[:, 1] >= 0.25).long())
    check_documented_use("# with torch.export.load", run, tmp_path)


def check_documented_use(title, run, folder):
    """The block of docs/recipes.md with that title takes a build's frames, and gives them the run's scores."""
    page = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
    (block,) = (text for text in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S) if text.startswith(title))
    numbered_video(folder / "video.mp4", 20, size=(48, 48), codec="ffv1", pixel_format="bgr0")
    names = {}
    with contextlib.chdir(folder):
        exec(block, names)
    clip = np.asarray(names["clips"])[0].transpose(0, 2, 3, 1)  # uint8 (T, S, S, 3)
    assert tuple(map(read_number, clip)) == plan_constant_rate(20, frames=6)[0]
    expected = load_model(run, device="cpu").predict(clip)
    assert np.asarray(names["scores"]) == pytest.approx(np.array([[*expected.scores.values()]]), abs=1e-4)


def test_preprocessing_is_the_trainings(run):
    from trainer.transforms.clips import normalise, to_float

    saved = load_saved(run, torch.device("cpu"))
    clips = torch.randint(0, 256, (2, 6, 3, 24, 24), dtype=torch.uint8)
    with torch.inference_mode():
        expected = saved.model(normalise(to_float(clips, 4, 16))).softmax(1)
        scores, _ = deployable(saved)(clips)
    assert torch.allclose(scores, expected, atol=1e-6)


def test_safetensors_carry_what_is_needed_to_use_them(run, tmp_path):
    export(run, "safetensors", tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        about = {name: json.loads(value) for name, value in file.metadata().items()}
    assert (about["classes"], about["threshold"]) == (["real", "fake"], 0.25)
    assert (about["frames"], about["stored_frames"], about["size"], about["stored_size"]) == (4, 6, 16, 24)


def test_a_folder_without_a_run(tmp_path):
    result = CliRunner().invoke(main, ["--run", str(tmp_path), "--format", "torch"])
    assert result.exit_code == 1 and "holds no models/best_model.pth" in result.output


@pytest.mark.parametrize("out", ["file/model.pt2", "folder"])
def test_where_nothing_can_be_written(run, out, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    result = CliRunner().invoke(main, ["--run", str(run), "--format", "torch", "--out", str(tmp_path / out)])
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert result.output.startswith(f"error: {tmp_path / out}: ")


class Tied(nn.Module):
    """Two layers with one weight, as language models have them, and a part of it as a buffer that is not contiguous."""

    def __init__(self, num_classes):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, num_classes)
        self.second.weight = self.first.weight
        self.register_buffer("part", self.first.weight.detach().T[:, :2])

    def forward(self, clips):
        return self.head(self.second(self.first(clips.mean((1, 3, 4)))))


def test_a_model_of_values(shards_folder, tmp_path):
    own = "runs:MeanColours"
    run_small(shards_folder, tmp_path / "run", f"model.name={own}", "epochs=1", "loss.name=mse")
    assert export(tmp_path / "run", "torch", tmp_path / "exported.pt2", own) < 1e-5


@pytest.mark.parametrize("ema", ["ema=0", "ema=0.9"])
def test_a_model_of_ones_own_that_shares_weights(shards_folder, tmp_path, ema):
    run_small(shards_folder, tmp_path / "run", f"model.name={__name__}:Tied", "epochs=1", ema)
    weights = load_file(tmp_path / "run" / "models" / "best_model.safetensors")
    assert torch.equal(weights["first.weight"], weights["second.weight"]) and weights["part"].shape == (3, 2)
    path, own = tmp_path / "exported.safetensors", f"{__name__}:Tied"
    assert export(tmp_path / "run", "safetensors", path, own) == 0
    assert torch.equal(load_file(path)["model.second.weight"], weights["first.weight"])
    assert export(tmp_path / "run", "torch", tmp_path / "exported.pt2", own) < 1e-6, "in batches of any size"
