import json

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open

from trainer.checkpoint import write_atomically
from trainer.config import load_settings
from trainer.export import deployable, export, main
from trainer.models import build_model
from trainer.saved import load_saved


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder with a model of random weights and a threshold."""
    out = tmp_path_factory.mktemp("run")
    settings = load_settings(None, ("model.backbone=tiny", "model.lstm_hidden=8"))
    torch.manual_seed(0)
    weights = build_model(settings.model, 2).state_dict()
    about = {"settings": settings.to_dict(), "classes": ["real", "fake"], "build": {}}
    about |= {"frames": 4, "size": 16, "stored_frames": 6, "stored_size": 24}
    (out / "models").mkdir()
    torch.save({"model": weights, **about}, out / "models" / "best_model.pth")
    write_atomically(out / "results" / "experiment_results.json", json.dumps({"threshold": 0.25}).encode())
    return out


@pytest.mark.parametrize("kind", ["safetensors", "torch", "onnx"])
def test_exported_scores_are_the_models(run, kind, tmp_path):
    if kind == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    result = CliRunner().invoke(main, ["--run", str(run), "--format", kind, "--out", str(tmp_path / "model")])
    assert result.exit_code == 0, result.output
    assert "scores differ from the run's by at most" in result.output
    assert (tmp_path / "model").stat().st_size > 100_000


def test_the_program_needs_nothing_but_torch_and_uint8_clips(run, tmp_path):
    export(run, "torch", tmp_path / "model.pt2")
    program = torch.export.load(tmp_path / "model.pt2").module()
    clips = torch.randint(0, 256, (5, 6, 3, 24, 24), dtype=torch.uint8)
    scores, predictions = program(clips)
    assert torch.allclose(scores.sum(1), torch.ones(5))
    assert torch.equal(predictions, (scores[:, 1] >= 0.25).long())


def test_preprocessing_is_the_trainings(run):
    from trainer.augment import normalise, to_float

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
