"""The best model's files, and the final report on it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import save as safetensors_bytes

from shardify.errors import FormatError
from shardify.index import read_meta
from trainer import report
from trainer.checkpoint import own_copies, write_atomically
from trainer.errors import TrainerError
from trainer.metrics import best_threshold, mean_by_video, softmax
from trainer.models import is_own
from trainer.parts import class_counts
from trainer.shards import ShardSet, input_shape
from trainer.torch_files import read_torch_file

if TYPE_CHECKING:
    from trainer.engine import Predictions
    from trainer.train import Run


def save_model(run: Run, validation: Predictions) -> None:
    """models/best_model.pth and .safetensors: the weights, with what is needed to use them.

    validation: this model's predictions, from which the threshold is chosen.
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
    }
    buffer = io.BytesIO()
    torch.save({"model": weights, **about}, buffer)
    write_atomically(run.out / "models" / "best_model.pth", buffer.getvalue())
    metadata = {name: json.dumps(value) for name, value in about.items()}
    write_atomically(run.out / "models" / "best_model.safetensors", safetensors_bytes(weights, metadata))


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


def check_best_model(out: Path, best_epoch: int) -> None:
    """Raises TrainerError where a run is to go on whose best model is lost: the report at its end is on that."""
    path = out / "models" / "best_model.pth"
    if not best_epoch:
        return
    try:
        read_torch_file(path, mmap=True)
    except Exception as error:  # the reader raises a dozen types for damaged files
        what = "cannot be read" if path.exists() else "is missing"
        raise TrainerError(
            f"{path} {what}, the best model so far (epoch {best_epoch}); put it back from a copy, or start a new run "
            f"with another --out"
        ) from error


def build_settings(folder: Path) -> dict:
    """How the shards' clips were made from their videos, so that others can be made alike; {} if nobody says."""
    try:
        return read_meta(folder)["settings"]
    except FormatError:
        return {}


def final_report(run: Run) -> dict:
    """Evaluate the best model on test (without one, on val) and write results/."""
    best = read_torch_file(run.out / "models" / "best_model.pth")
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
