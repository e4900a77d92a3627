"""A run's best model, read back with what is needed to use it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from trainer.config import from_dict
from trainer.errors import TrainerError
from trainer.models import build_for, with_named_class
from trainer.preflight import check_gpu
from trainer.settings import Settings
from trainer.torch_files import read_torch_file

NUMBER = (float, type(None))
KNOWN = {
    "classes": list, "frames": int, "size": int, "stored_frames": int, "stored_size": int, "build": dict,
    "threshold": NUMBER, "video_threshold": NUMBER,
}  # fmt: skip


@dataclass(frozen=True)
class SavedModel:
    """models/best_model.pth of a run."""

    model: nn.Module  # in evaluation mode, on the device
    settings: Settings
    classes: list[str]
    frames: int  # that the model sees
    size: int
    stored_frames: int  # of the clips that these are taken from
    stored_size: int
    build: dict  # the builder's settings, {} where unknown
    class_counts: np.ndarray  # int64 (K,), of the clips that it was trained on
    threshold: float | None  # of the score of class 1 of two, chosen on validation's clips
    video_threshold: float | None  # the same of a video's score, the mean of its clips'


def load_saved(run: Path, device: torch.device, model_class: str | None = None) -> SavedModel:
    """The best model of the run in a folder, whoever has made it: nothing in its file is executed.

    model_class: of a custom model, package.module:Class, as the user has stated it. Raises SettingsError where a
    custom model comes without, TrainerError where the folder holds no run with an evaluated epoch.
    """
    path = run / "models" / "best_model.pth"
    if not path.is_file():
        raise TrainerError(f"{run}: holds no models/best_model.pth; pass the folder of a run")
    try:
        saved = read_torch_file(path)
        settings, counts = from_dict(saved["settings"]), np.array(saved["class_counts"])
        known = {name: saved[name] for name in KNOWN}
        wrong = [name for name, kind in KNOWN.items() if not isinstance(known[name], kind)]
        if wrong:
            raise ValueError(f"{wrong[0]} is of type {type(known[wrong[0]]).__name__}")
    except Exception as error:  # the reader raises a dozen types for damaged files
        raise TrainerError(f"{path}: cannot be read ({error}); train again, or restore the file") from error
    settings = dataclasses.replace(settings, model=with_named_class(settings.model, model_class, path))
    check_gpu(device)
    # the weights come from the file; what only helps training is left out
    plain = dataclasses.replace(settings.model, weights="none", compile=False, gradient_checkpointing=False)
    model = build_for(dataclasses.replace(settings, model=plain), len(saved["classes"]), saved["size"])
    try:
        model.load_state_dict(saved["model"])
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise TrainerError(f"{path}: does not fit {settings.model.name} as it is here ({reason})") from error
    model.to(device, memory_format=torch.channels_last).eval()
    return SavedModel(model, settings, **known, class_counts=counts)
