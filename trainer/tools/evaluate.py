"""Evaluation of a run's best model on any shards."""

from __future__ import annotations

from pathlib import Path

from shardify.storage.local import check_writable
from trainer.errors import TrainerError


def evaluate_run(
    run: Path, shards: Path, split: str, devices: str, csv_path: Path | None, model_class: str | None = None
) -> dict:
    """The metrics of one split.

    model_class: of a custom model, package.module:Class. Raises ShardifyError, torch.OutOfMemoryError.
    """
    from shardify.storage.local import write_atomically
    from trainer.data.loader import ClipLoader
    from trainer.devices.distributed import join_group, num_devices
    from trainer.engine.engine import choose_dtype, evaluate
    from trainer.evaluation.predictions import predictions_csv, source_rows
    from trainer.saved_model import load_saved
    from trainer.shards.shard_set import open_shards

    if csv_path:
        check_writable(csv_path)
    group = join_group(num_devices(devices) > 0)
    saved = load_saved(run, group.device, model_class)
    settings, task = saved.settings, saved.task
    found = task.match_classes(open_shards(shards, settings.data.sheet_frames), saved.classes)
    check_fits(saved, found)
    loader = ClipLoader(
        found, split, settings.batch_size, shuffle=False, device=group.device,
        on_error=settings.data.on_error, max_errors=settings.data.max_errors,
    )  # fmt: skip
    loss, labels = task.build_loss(saved.model, saved.class_counts, group.device), task.labels(found)
    dtype = choose_dtype(settings.amp, group.device)
    predictions = evaluate(saved.model, loader, loss, labels, dtype, group, settings.data, settings.accumulate)
    if csv_path:
        part = task.report(predictions, saved.classes, saved.threshold)
        write_atomically(csv_path, predictions_csv(found, predictions.numbers, part, source_rows(found)))
    return task.split_figures(predictions, split, saved.threshold)


def check_fits(saved, shards) -> None:
    """Raises TrainerError where the model was trained on clips of another kind."""
    for name, expected in (("frames", saved.stored_frames), ("size", saved.stored_size)):
        if getattr(shards, name) != expected:
            raise TrainerError(
                f"{shards.folder}: {name} is {getattr(shards, name)}, the model was trained on {expected}"
            )
