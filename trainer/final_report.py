"""The last step of a run: its best model evaluated, and all that is reported of it."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import numpy as np

from shardify.storage.local import write_atomically
from trainer.config.settings import is_custom
from trainer.devices import gpu
from trainer.devices.gpu import gpu_memory
from trainer.evaluation import report
from trainer.evaluation.predictions import Predictions, source_rows
from trainer.evaluation.tables import NO_TEMPERATURE
from trainer.saved_model import read_best
from trainer.shards.shard_set import input_shape
from trainer.tasks.levels import evaluation
from trainer.tasks.predicting import PredictingTask

if TYPE_CHECKING:
    from trainer.run import Run

logger = logging.getLogger(__name__)


def final_report(run: Run) -> dict:
    """Evaluate the best model on test (without one, on val) and write results/.

    Returns what is in experiment_results.json; on ranks other than the main one without what takes minutes.
    """
    with run.group.failing_together():  # only the main process's folder is sure to hold it
        best = read_best(run.out) if run.group.is_main else None
    best = run.group.of_main(best)
    run.model.load_state_dict(best["model"])
    run.engine.ema = None  # the best weights are the averaged ones already
    split = "test" if "test" in run.loaders else "val"
    validation = run.engine.evaluate(run.loaders["val"])
    predictions = run.engine.evaluate(run.loaders["test"]) if split == "test" else validation
    if isinstance(run.task, PredictingTask):
        return report_predictions(run, best, predictions, validation, split)
    record = {
        "run": run.out.name,
        "test": run.task.split_figures(predictions, split),
        "validation": run.task.split_figures(validation, "val"),
        **describe_run(run),
    }
    with run.group.waiting_for_main():
        if run.group.is_main:
            report.write_losses(run.out / "results", record)
    return record


def report_predictions(run: Run, best: dict, predictions: Predictions, validation: Predictions, split: str) -> dict:
    """The report of a model that predicts labels: figures with their intervals, tables, plots.

    The main rank's has `evaluation` and `test_intervals`: resampling for these takes seconds, of many clips minutes, in
    which the others wait. best: what `read_best` has read; predictions: of the split.
    """
    task, threshold, classes = run.task, best["threshold"], run.shards.classes
    task.temperature = best["temperature"]
    further = task.further_results(run.engine.evaluate, run.loaders[split], predictions, threshold)
    record = {
        "run": run.out.name,
        "test": task.by_head(task.split_figures(predictions, split, threshold)),
        "validation": task.by_head(task.split_figures(validation, "val", threshold)),
        "threshold": threshold,
        "video_threshold": best["video_threshold"],
        **describe_run(run),
    }
    with run.group.waiting_for_main():
        if run.group.is_main:
            measured = evaluation(task, predictions, split, run.shards, source_rows(run.shards), best)
            record |= {"test_intervals": task.intervals(measured["clip"]), "evaluation": measured}
            if run.settings.calibrate and task.temperature == 1:
                logger.warning(f"calibrate is true, but scores stay as they are: {NO_TEMPERATURE}")
            part = task.report(predictions, classes, threshold)
            for name, content in further.items():
                write_atomically(run.out / "results" / name, (json.dumps(content, indent=1) + "\n").encode())
            report.write_results(run.out / "results", record, run.shards, predictions, part)
    return record


def _folders(run: Run) -> dict:
    """The shards folders of the run, and those that joined training alone with their clips, by settings.data.extra."""
    parts = run.shards.parts or (run.shards,)
    own = len(parts) - len(run.settings.data.extra or ())
    numbers = run.loaders["train"].numbers
    counts = np.bincount(run.shards.folder_numbers[numbers], minlength=len(parts)).tolist()
    extra = [{"folder": str(parts[i].folder), "clips": counts[i]} for i in range(own, len(parts))]
    return {"folders": [str(part.folder) for part in parts[:own]], "extra": extra}


def describe_run(run: Run) -> dict:
    """Every value that shaped the run."""
    settings, shards, progress, train = run.settings, run.shards, run.progress, run.loaders["train"]
    names = run.task.class_names(shards.classes)
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
        **({"best_step": progress.best_epoch * settings.interval} if settings.steps else {}),
        "settings": settings.to_dict(),
        "classes": shards.classes,
        "heads": {head.name: head.classes for head in shards.heads},
        "shards": {
            "folder": shards.name,
            **_folders(run),
            "fingerprint": shards.fingerprint,
            "clips": {name: len(loader.numbers) for name, loader in run.loaders.items()},
            "clips_per_class": {
                name: dict(zip(names, run.task.class_counts(shards, loader.numbers).tolist(), strict=True))
                for name, loader in run.loaders.items()
            },
            "frames": shards.frames,
            "size": shards.size,
        },
        "model": {
            "name": settings.model.name,
            "described": settings.model.described,
            "backbone": None if is_custom(settings.model) else settings.model.backbone,
            "weights": progress.weights_origin,
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
        "environment": gpu.environment(run.group.device, run.engine.dtype, run.group.world),
        "damaged_clips": damaged,
        "notes": run.notes + incidents,
    }
