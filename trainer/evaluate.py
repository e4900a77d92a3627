"""`python -m trainer.evaluate --run runs/x --shards shards/`: a run's best model on any shards."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from trainer.errors import ShardifyError, TrainerError


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--run", type=click.Path(path_type=Path), required=True, help="Folder of a finished run.")
@click.option("--shards", type=click.Path(path_type=Path), required=True, help="Folder made by `shardify build`.")
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True)
@click.option("--devices", default="auto", show_default=True, help="auto | cpu.")
@click.option("--csv", "csv_path", type=click.Path(path_type=Path), help="Write every clip's score here.")
def main(run: Path, shards: Path, split: str, devices: str, csv_path: Path | None) -> None:
    """Print the metrics of a run's best model on a split of SHARDS, at the threshold that the run chose."""
    try:
        figures = evaluate_run(run, shards, split, devices, csv_path)
    except ShardifyError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    for name, value in figures.items():
        click.echo(f"{name:<18} {value if value is None or not isinstance(value, float) else f'{value:.4f}'}")


def evaluate_run(run: Path, shards: Path, split: str, devices: str, csv_path: Path | None) -> dict:
    """The metrics of one split. Raises ShardifyError."""
    from trainer import report
    from trainer.checkpoint import write_atomically
    from trainer.distributed import join_group, num_devices
    from trainer.engine import choose_dtype, evaluate
    from trainer.loader import ClipLoader
    from trainer.losses import build_loss
    from trainer.metrics import softmax
    from trainer.saved import load_saved
    from trainer.shards import open_shards

    group = join_group(num_devices(devices) > 0)
    saved, found = load_saved(run, group.device), open_shards(shards)
    check_fits(saved, found)
    loader = ClipLoader(
        found, split, saved.settings.batch_size, shuffle=False, device=group.device,
        on_error=saved.settings.data.on_error, max_errors=saved.settings.data.max_errors,
    )  # fmt: skip
    labels = found.samples["label"][loader.numbers]
    loss = build_loss(saved.settings.loss, labels, len(saved.classes), group.device)
    predictions = evaluate(saved.model, loader, loss, choose_dtype(saved.settings.amp, group.device), group)
    if csv_path:
        table = report.predictions_csv(found, predictions, softmax(predictions.logits), saved.threshold)
        write_atomically(csv_path, table)
    return report.split_figures(predictions, split, saved.threshold)


def check_fits(saved, shards) -> None:
    """Raises TrainerError where the model was trained on clips of another kind."""
    for name in ("classes", "frames", "size"):
        if getattr(saved, name) != getattr(shards, name):
            raise TrainerError(
                f"{shards.folder}: {name} is {getattr(shards, name)}, the model was trained on {getattr(saved, name)}"
            )


if __name__ == "__main__":
    main()
