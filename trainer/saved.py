"""A run's best model, read back with what is needed to use it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from trainer.errors import TrainerError
from trainer.models import build_model
from trainer.settings import Settings, from_dict


@dataclass(frozen=True)
class SavedModel:
    """models/best_model.pth of a run, and the threshold that the run chose on validation."""

    model: nn.Module  # in evaluation mode, on the device
    settings: Settings
    classes: list[str]
    frames: int
    size: int
    build: dict  # the builder's settings, {} where unknown
    threshold: float | None


def load_saved(run: Path, device: torch.device) -> SavedModel:
    """Raises TrainerError where the folder holds no finished run."""
    path = run / "models" / "best_model.pth"
    if not path.is_file():
        raise TrainerError(f"{run}: holds no models/best_model.pth; pass the folder of a run")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        settings = from_dict(saved["settings"])
    except Exception as error:  # the reader raises a dozen types for damaged files
        raise TrainerError(f"{path}: cannot be read ({error}); train again, or restore the file") from error
    without_weights = dataclasses.replace(settings.model, weights="none")  # they come from the file
    model = build_model(without_weights, len(saved["classes"]), saved["size"])
    model.load_state_dict(saved["model"])
    model.to(device, memory_format=torch.channels_last).eval()
    return SavedModel(
        model, settings, saved["classes"], saved["frames"], saved["size"], saved["build"], _threshold(run)
    )


def _threshold(run: Path) -> float | None:
    results = run / "results" / "experiment_results.json"
    return json.loads(results.read_text())["threshold"] if results.is_file() else None
