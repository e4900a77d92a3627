"""The command `trainer.explain`: what a run's best model attends to, moment by moment.

python -m trainer.explain --run runs/x --clips 8
"""

from __future__ import annotations

from pathlib import Path

import click

from shardify.one_line_errors import failures_as_one_line
from shardify.terminal import escape_unprintable, show
from trainer.config.options import FOLDER, LOCAL, Command, devices_option, model_option
from trainer.devices.threads import bound_spinning
from trainer.tools.explain import ExplainRequest, explain


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--run", type=LOCAL, required=True, help="Folder of a finished run.")
@model_option
@click.option("--shards", type=FOLDER, multiple=True, help="A data set.  [default: what the run was trained on]")
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True)
@click.option("--clips", type=click.IntRange(1), default=8, show_default=True, help="Spread evenly over the split.")
@click.option("-o", "--out", type=LOCAL, help="[default: RUN/results/attention.html]")
@devices_option
def main(run: Path, out: Path | None, **options) -> None:
    """Write a page of clips with their frames, their sound, and how much the model attends to each moment of both."""
    path = out or run / "results" / "attention.html"
    with failures_as_one_line():
        count = explain(ExplainRequest(run=run, **options), path)
    show(f"{path}: {count} clips")


if __name__ == "__main__":
    escape_unprintable()
    bound_spinning()
    main()
