"""The best model of a run: its files are written and read here, with all that is needed to use it."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import logging
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from shardify.format.members import members_from
from shardify.format.records import PRIMARY, Head
from shardify.storage.local import file_sha256, rename, write_atomically
from trainer.config.load import from_dict
from trainer.config.settings import Settings
from trainer.devices.gpu import check_gpu
from trainer.devices.memory import move_model
from trainer.errors import TrainerError
from trainer.models.custom import with_named_class
from trainer.shards.shard_set import input_shape, videos_of
from trainer.tasks import task_of
from trainer.tasks.predicting import PredictingTask
from trainer.torch_files import read_torch_file

if TYPE_CHECKING:
    from trainer.engine.checkpoint import Progress
    from trainer.evaluation.predictions import Predictions
    from trainer.run import Run

logger = logging.getLogger(__name__)

NUMBER = (float, type(None))
KNOWN = {
    "classes": list, "heads": list, "members": dict, "frames": int, "size": int,
    "stored_frames": int, "stored_size": int, "build": dict,
    "threshold": NUMBER, "video_threshold": NUMBER, "temperature": float,
}  # fmt: skip

MODEL_FILES = ("best_model.pth", "best_model.safetensors")


@dataclass(frozen=True)
class SavedModel:
    """The best model of a run, as models/best_model.pth holds it."""

    model: nn.Module  # in evaluation mode, on the device
    task: PredictingTask
    settings: Settings
    classes: list[str]  # of the primary head
    heads: list[dict]  # `name` and `classes` of each, the primary one first
    members: dict[str, dict]  # of the clips, by name, as index.json has them; {} in runs of 0.3.0
    frames: int  # that the model sees
    size: int
    stored_frames: int  # of the clips that these are taken from
    stored_size: int
    build: dict  # the builder's settings, {} where unknown
    class_counts: np.ndarray  # int64 (K,), of the clips that it was trained on
    threshold: float | None  # of the score of class 1 of two, chosen on validation's clips
    video_threshold: float | None  # the same of a video's score, the mean of its clips'
    temperature: float  # of the scores, as validation has fitted it; they are divided by it where `calibrate` is set

    def about(self) -> dict:
        """What other programs need to know to use the model, as plain values."""
        return {"settings": self.settings.to_dict(), **{name: getattr(self, name) for name in KNOWN}}


def load_saved(run: Path, device: torch.device, model_class: str | None = None) -> SavedModel:
    """The best model of the run in a folder, whoever has made it: nothing in its file is executed.

    model_class: of a custom model, package.module:Class, as the user has stated it. Raises SettingsError where a
    custom model comes without, TrainerError where the folder holds no run with an evaluated epoch.
    """
    path = run / "models" / "best_model.pth"
    if not path.is_file():
        raise TrainerError(f"{run}: holds no models/best_model.pth; pass the folder of a run")
    try:
        saved = read_best(run)
        settings, counts = from_dict(saved["settings"]), np.array(saved["class_counts"])
        heads = [Head(head["name"], head["classes"]) for head in saved["heads"]]
        task = task_of(settings, heads, members_from(saved["members"]))
        known = {name: saved[name] for name in KNOWN}
        wrong = [name for name, kind in KNOWN.items() if not isinstance(known[name], kind)]
        if wrong:
            raise ValueError(f"{wrong[0]} is of type {type(known[wrong[0]]).__name__}")
        if not is_state_dict(weights := saved["model"]):
            raise ValueError("model is not a dict of tensors by name")
    except Exception as error:  # the reader raises a dozen types for damaged files
        raise TrainerError(f"{path}: cannot be read ({error}); train again, or restore the file") from error
    if not isinstance(task, PredictingTask):
        raise TrainerError(f"{path}: {task.instead}")
    settings = dataclasses.replace(settings, model=with_named_class(settings.model, model_class, path))
    check_gpu(device)
    try:
        model = task.build_model(settings.model.for_saved_weights(), len(saved["classes"]), saved["size"])
        model.load_state_dict(weights)
    except TrainerError as error:
        raise type(error)(f"{path}: {error}") from error
    except Exception as error:  # the file's numbers may be such as no layer can have, or no memory holds
        reason = textwrap.shorten(str(error), 300, placeholder=" …")
        raise TrainerError(
            f"{path}: does not fit {settings.model.name} as it is here ({reason}); if an earlier version has saved it, "
            f"use that one, or train again"
        ) from error
    move_model(model, device)
    model.eval()
    task.temperature = known["temperature"]
    return SavedModel(model, task, settings, **known, class_counts=counts)


def read_best(out: Path) -> dict:
    """All that models/best_model.pth holds: the weights as `model`, and what `save_model` adds. Raises OSError."""
    saved = read_torch_file(out / "models" / "best_model.pth")
    heads = [{"name": PRIMARY, "classes": saved["classes"]}]
    return {"temperature": 1.0, "heads": heads, "members": {}, **saved}  # earlier runs have none


def save_model(run: Run, validation: Predictions, value: float) -> str:
    """models/best_model.pth and .safetensors, the weights with what is needed to use them; the first one's SHA-256.

    They get these names in `publish_model`, once there is a checkpoint that stands for them. validation: this model's
    predictions, from which the threshold is chosen; value: their metric.
    """
    weights = own_copies(run.engine.evaluated.state_dict())
    shards, data = run.shards, run.settings.data
    frames, size = input_shape(shards, data.frames, data.size)
    about = {
        "settings": run.settings.to_dict(),
        "classes": shards.classes,
        "heads": [{"name": head.name, "classes": head.classes} for head in shards.heads],
        "members": {name: member.to_dict() for name, member in shards.members.items()},
        "frames": frames,
        "size": size,
        "stored_frames": shards.frames,
        "stored_size": shards.size,
        "build": shards.build,
        "class_counts": run.task.class_counts(shards, run.loaders["train"].numbers).tolist(),
        **run.task.fit_scores(validation, videos_of(shards, validation.numbers)),
        "epoch": run.progress.best_epoch,
        "value": value,
    }
    buffer = io.BytesIO()
    torch.save({"model": weights, **about}, buffer)
    payload = buffer.getvalue()
    write_atomically(unpublished(run.out, "best_model.pth"), payload)
    metadata = {name: json.dumps(value) for name, value in about.items()}
    write_atomically(unpublished(run.out, "best_model.safetensors"), safetensors_bytes(weights, metadata))
    return hashlib.sha256(payload).hexdigest()


def publish_model(out: Path) -> None:
    """Give the newest model the names of the best one."""
    for name in MODEL_FILES:
        if unpublished(out, name).exists():
            rename(unpublished(out, name), out / "models" / name)


def unpublished(out: Path, name: str) -> Path:
    return out / "models" / f".{name}.new"


def settle_best_model(out: Path, progress: Progress) -> None:
    """Make models/ hold the model of `progress.best_epoch`, wherever the run was cut off.

    Where the checkpoint that stood for it is lost, a model of a later epoch than `progress` has reached becomes its
    best one. Raises TrainerError where the best model is lost: the report at the run's end is on that.
    """
    new = unpublished(out, "best_model.pth")
    if new.exists() and file_sha256(new) != progress.best_sha256:  # cut off before the checkpoint that would name it
        for name in reversed(MODEL_FILES):
            unpublished(out, name).unlink(missing_ok=True)
    publish_model(out)
    if not progress.best_epoch:
        return
    path = out / "models" / "best_model.pth"
    remedy = "put it back from a copy, or start a new run with another --out"
    try:
        saved = read_torch_file(path, mmap=True)
        sha256 = file_sha256(path)
    except Exception as error:  # the reader raises a dozen types for damaged files
        what = "cannot be read" if path.exists() else "is missing"
        raise TrainerError(f"{path} {what}, the best model so far (epoch {progress.best_epoch}); {remedy}") from error
    if progress.best_sha256 in ("", sha256):
        return
    if saved.get("epoch", 0) <= progress.epoch:
        raise TrainerError(f"{path} is not the best model so far, which is of epoch {progress.best_epoch}; {remedy}")
    progress.best_epoch, progress.best_value, progress.best_sha256 = saved["epoch"], saved["value"], sha256
    logger.warning(f"{path} is of epoch {progress.best_epoch}, after the checkpoint; it stays until one is better")


def is_state_dict(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())


def own_copies(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights, contiguous, on the CPU, each with its own memory: safetensors refuses weights that share theirs."""
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in weights.items()
    }
