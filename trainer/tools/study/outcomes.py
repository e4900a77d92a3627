"""The files of a study's parts: what an arm came to with one seed, and the classifier whose features are used."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save
from torch import nn

from shardify.storage.local import write_atomically
from trainer.config.settings import Settings
from trainer.devices.distributed import Group
from trainer.devices.memory import move_model
from trainer.engine.assemble import make_model
from trainer.errors import TrainerError
from trainer.tools.study.pictures import Pictures

CLASSIFIER = "classifier.safetensors"


@dataclass(frozen=True)
class Outcome:
    """What an arm came to with one seed."""

    outputs: np.ndarray  # float32 (N, K), of the test pictures
    best_step: int | None  # after which it was best on val; None without val
    val_accuracy: float | None


def save_outcome(path: Path, outcome: Outcome, about: str) -> None:
    """about: all that it depends on."""
    buffer = io.BytesIO()
    np.savez(buffer, about=about, **{name: value for name, value in vars(outcome).items() if value is not None})
    write_atomically(path, buffer.getvalue())


def read_outcome(path: Path, about: str) -> Outcome | None:
    """What was found before, None where it was not. Raises TrainerError where that was with other settings or data."""
    if not path.is_file():
        return None
    try:
        with np.load(path) as file:
            known = str(file["about"])
            chosen = (int(file["best_step"]), float(file["val_accuracy"])) if "best_step" in file else (None, None)
            outcome = Outcome(file["outputs"], *chosen)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise TrainerError(f"{path}: cannot be read ({error}); delete it, and it is made again") from error
    if known != about:
        raise TrainerError(f"{path}: was made with other settings, steps or data; pass another --out, or delete it")
    return outcome


def save_classifier(out: Path, model: nn.Module) -> None:
    write_atomically(out / CLASSIFIER, save({name: value.contiguous() for name, value in model.state_dict().items()}))


def load_classifier(out: Path, pictures: Pictures, settings: Settings, group: Group) -> nn.Module:
    """The real arm's classifier of the first seed. Raises TrainerError."""
    model = make_model(settings, pictures.shards, pictures.of_split("train"), None)
    try:
        model.load_state_dict(load_file(out / CLASSIFIER))
    except Exception as error:  # damaged files have many errors
        raise TrainerError(
            f"{out / CLASSIFIER}: cannot be read ({error}); delete it with arms/real, and both are made again"
        ) from error
    move_model(model, group.device)
    return model.eval()
