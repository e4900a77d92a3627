"""The command `trainer.evaluate`: the metrics of a run's best model on any shards.

python -m trainer.evaluate --run runs/x --shards shards/
"""

from __future__ import annotations

from pathlib import Path

import click

from shardify.one_line_errors import failures_as_one_line
from shardify.terminal import escape_unprintable
from trainer.devices.threads import bound_spinning
from trainer.options import Command, model_option
from trainer.tools.evaluate import evaluate_run


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


if __name__ == "__main__":
    escape_unprintable()
    bound_spinning()
    main()
