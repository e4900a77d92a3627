"""The command `trainer.evaluate`: the metrics of a run's best model on any shards.

python -m trainer.evaluate --run runs/x --shards shards/
"""

from __future__ import annotations

from pathlib import Path

import click

from shardify.one_line_errors import failures_as_one_line
from shardify.storage.local import check_writable
from shardify.terminal import escape_unprintable
from trainer.devices.memory import in_parts
from trainer.devices.threads import bound_spinning
from trainer.errors import TrainerError
from trainer.options import Command, model_option


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--run", type=click.Path(path_type=Path), required=True, help="Folder of a finished run.")
@model_option
@click.option("--shards", type=click.Path(path_type=Path), required=True, help="Folder made by `shardify build`.")
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True)
@click.option("--devices", default="auto", show_default=True, help="auto | cpu.")
@click.option("--csv", "csv_path", type=click.Path(path_type=Path), help="Write every clip's score here.")
def main(run: Path, model_class: str | None, shards: Path, split: str, devices: str, csv_path: Path | None) -> None:
    """Print the metrics of a run's best model on a split of SHARDS, at the threshold that the run chose."""
    with failures_as_one_line():
        figures = evaluate_run(run, shards, split, devices, csv_path, model_class)
    for name, value in figures.items():
        shown = f"{value:.4f}" if isinstance(value, float) else value
        click.echo(f"{name:<18} {'undefined' if value is None else shown}")


def evaluate_run(
    run: Path, shards: Path, split: str, devices: str, csv_path: Path | None, model_class: str | None = None
) -> dict:
    """The metrics of one split.

    model_class: of a custom model, package.module:Class. Raises ShardifyError, torch.OutOfMemoryError.
    """
    from shardify.storage.local import write_atomically
    from trainer.data.loader import ClipLoader
    from trainer.data.shard_set import open_shards
    from trainer.devices.distributed import join_group, num_devices
    from trainer.engine.engine import choose_dtype, evaluate
    from trainer.evaluation.predictions import predictions_csv, source_rows
    from trainer.saved_model import load_saved

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
    predictions = in_parts(
        lambda parts: evaluate(saved.model, loader, loss, labels, dtype, group, settings.data, parts),
        settings.accumulate,
        most=loader.batch_size,
    )
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


if __name__ == "__main__":
    escape_unprintable()
    bound_spinning()
    main()
