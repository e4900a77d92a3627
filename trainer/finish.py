"""The best model's files, and the final report on it."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import save as safetensors_bytes

from shardify.errors import FormatError
from shardify.index import read_meta
from trainer import report
from trainer.checkpoint import own_copies, rename, write_atomically
from trainer.errors import TrainerError
from trainer.metrics import best_threshold, mean_by_video, softmax
from trainer.models import is_own
from trainer.parts import class_counts
from trainer.shards import ShardSet, input_shape
from trainer.torch_files import read_torch_file

if TYPE_CHECKING:
    from trainer.engine import Predictions
    from trainer.state import Progress
    from trainer.train import Run

MODEL_FILES = ("best_model.pth", "best_model.safetensors")


def save_model(run: Run, validation: Predictions, value: float) -> str:
    """models/best_model.pth and .safetensors, the weights with what is needed to use them; the first one's SHA-256.

    They get these names in `publish_model`, once there is a checkpoint that stands for them. validation: this model's
    predictions, from which the threshold is chosen; value: their metric.
    """
    model = run.engine.ema.module if run.engine.ema else run.model
    weights = own_copies(model.state_dict())
    shards, data = run.shards, run.settings.data
    frames, size = input_shape(shards, data.frames, data.size)
    about = {
        "settings": run.settings.to_dict(),
        "classes": shards.classes,
        "frames": frames,
        "size": size,
        "stored_frames": shards.frames,
        "stored_size": shards.size,
        "build": build_settings(shards.folder),
        "class_counts": class_counts(shards, run.loaders["train"].numbers).tolist(),
        **choose_thresholds(validation, videos_of(shards, validation.numbers)),
        "epoch": run.progress.epoch + 1,
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


def choose_thresholds(validation: Predictions, videos: np.ndarray) -> dict[str, float | None]:
    """The scores from which class 1 of two is predicted: of a clip, and of a video, whose score is its clips' mean.

    They differ: means lie closer together. videos: which one each clip comes from, (N,).
    """
    if validation.is_regression:
        return {"threshold": None, "video_threshold": None}
    labels, scores = validation.labels, softmax(validation.logits)
    return {
        "threshold": best_threshold(labels, scores),
        "video_threshold": best_threshold(*mean_by_video(videos, labels, scores)),
    }


def videos_of(shards: ShardSet, numbers: np.ndarray) -> np.ndarray:
    """The video of each of these clips, by its key: where a video gives several, theirs end in -000, -001 and so on."""
    keys = shards.samples["key"][numbers]
    if build_settings(shards.folder).get("clips", 1) == 1:
        return keys
    return np.array([key.rpartition(b"-")[0] for key in keys.tolist()])


def settle_best_model(out: Path, progress: Progress, say: Callable[[str], None]) -> None:
    """Make models/ hold the model of `progress.best_epoch`, wherever the run was cut off.

    Where the checkpoint that stood for it is lost, a model of a later epoch than `progress` has reached becomes its
    best one. Raises TrainerError where the best model is lost: the report at the run's end is on that.
    """
    new = unpublished(out, "best_model.pth")
    if new.exists() and sha256_of(new) != progress.best_sha256:  # cut off before the checkpoint that would name it
        for name in reversed(MODEL_FILES):
            unpublished(out, name).unlink(missing_ok=True)
    publish_model(out)
    if not progress.best_epoch:
        return
    path = out / "models" / "best_model.pth"
    remedy = "put it back from a copy, or start a new run with another --out"
    try:
        saved = read_torch_file(path, mmap=True)
        sha256 = sha256_of(path)
    except Exception as error:  # the reader raises a dozen types for damaged files
        what = "cannot be read" if path.exists() else "is missing"
        raise TrainerError(f"{path} {what}, the best model so far (epoch {progress.best_epoch}); {remedy}") from error
    if progress.best_sha256 in ("", sha256):
        return
    if saved.get("epoch", 0) <= progress.epoch:
        raise TrainerError(f"{path} is not the best model so far, which is of epoch {progress.best_epoch}; {remedy}")
    progress.best_epoch, progress.best_value, progress.best_sha256 = saved["epoch"], saved["value"], sha256
    say(f"warning: {path} is of epoch {progress.best_epoch}, after the checkpoint; it stays until one is better")


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def build_settings(folder: Path) -> dict:
    """How the shards' clips were made from their videos, so that others can be made alike; {} if nobody says."""
    try:
        return read_meta(folder)["settings"]
    except FormatError:
        return {}


def final_report(run: Run) -> dict:
    """Evaluate the best model on test (without one, on val) and write results/."""
    best = None
    with run.group.failing_together():
        if run.group.is_main:  # whose folder alone is sure to hold it
            best = read_torch_file(run.out / "models" / "best_model.pth")
    best = run.group.of_main(best)
    run.model.load_state_dict(best["model"])
    run.engine.ema = None  # the best weights are the averaged ones already
    split = "test" if "test" in run.loaders else "val"
    validation = run.engine.evaluate(run.loaders["val"])
    predictions = run.engine.evaluate(run.loaders["test"]) if split == "test" else validation
    threshold = best["threshold"]
    record = {
        "run": run.out.name,
        "test": report.split_figures(predictions, split, threshold),
        "test_intervals": report.intervals(run.shards, predictions, threshold),
        "validation": report.split_figures(validation, "val", threshold),
        "threshold": threshold,
        "video_threshold": best["video_threshold"],
        **describe_run(run),
    }
    if run.group.is_main:
        report.write_results(run.out / "results", record, run.shards, predictions)
    return record


def describe_run(run: Run) -> dict:
    """Every value that shaped the run."""
    settings, shards, progress, train = run.settings, run.shards, run.progress, run.loaders["train"]
    messages = [message for loader in run.loaders.values() for message in loader.damaged.values()]
    damaged = sorted(set(run.group.gather(np.array(messages, object)).tolist()))
    incidents = [f"{len(damaged)} damaged clips were skipped"] if damaged else []
    if progress.skips[0]:
        incidents.append(f"{progress.skips[0]} steps were skipped: their gradients were not finite")
    if progress.accumulate != settings.accumulate:
        incidents.append(f"memory ran out: from then on, steps were taken in {progress.accumulate} parts")
    return {
        "metric": settings.metric,
        "best_epoch": progress.best_epoch,
        "epochs_trained": progress.epoch,
        "settings": settings.to_dict(),
        "classes": shards.classes,
        "shards": {
            "folder": str(shards.folder),
            "fingerprint": shards.fingerprint,
            "clips": {name: len(loader.numbers) for name, loader in run.loaders.items()},
            "frames": shards.frames,
            "size": shards.size,
        },
        "model": {
            "name": settings.model.name,
            "backbone": None if is_own(settings.model) else settings.model.backbone,
            "weights": weights_origin(run),
            "parameters": sum(parameter.numel() for parameter in run.model.parameters()),
            "input": dict(
                zip(("frames", "size"), input_shape(shards, settings.data.frames, settings.data.size), strict=True)
            ),
        },
        "training": {
            "clips_per_second": progress.clips / max(progress.seconds, 1e-9),
            "data_wait": progress.wait_seconds / max(progress.seconds, 1e-9),
            "cache": train.cache,
            "cache_hit_rate": train.hit_rate,
            **gpu_memory(run.group.device),
        },
        "environment": report.environment(run.group.device, run.engine.dtype, run.group.world),
        "damaged_clips": damaged,
        "notes": run.notes + incidents,
    }


def gpu_memory(device: torch.device) -> dict[str, float]:
    """The most that training has taken on this process' GPU."""
    return {"gpu_memory_gb": torch.cuda.max_memory_allocated(device) / 1e9} if device.type == "cuda" else {}


def weights_origin(run: Run) -> str:
    """Where the weights came from before training."""
    return getattr(run.model, "weights_origin", "the model's own")
