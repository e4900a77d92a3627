"""The command `trainer.evaluate`: the figures of a run's best model on any data sets.

python -m trainer.evaluate --run runs/x --shards shards/ --shards other/shards/ --out evaluation/
"""

from __future__ import annotations

import click

from shardify.one_line_errors import failures_as_one_line
from shardify.terminal import escape_unprintable, show
from trainer.config.options import FOLDER, LOCAL, Command, devices_option, model_option, pairs
from trainer.devices.threads import bound_spinning
from trainer.tools.evaluate import EvaluationRequest, evaluate_run


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--run", type=LOCAL, required=True, help="Folder of a finished run.")
@model_option
@click.option("--shards", type=FOLDER, required=True, multiple=True, help="A data set; may be repeated.")
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True)
@click.option(
    "--map", "meant", multiple=True, metavar="CLASS=CLASS", callback=pairs,
    help="Which class of the model a class of the shards is; may be repeated.",
)  # fmt: skip
@click.option("--out", type=LOCAL, help="Write evaluation.json, tables, plots and a page into this folder.")
@click.option("--robustness", is_flag=True, help="Also score clips that are compressed, blurred, smaller and noisy.")
@devices_option
@click.option("--csv", type=LOCAL, help="Write every clip's score here.")
def main(**options) -> None:
    """Print the figures of a run's best model on a split of each data set, per clip and per video.

    The thresholds are those that the run chose on validation. A class of the shards is the model's class that --map
    names, else the one of the same name, else the one that means the same: real or fake.
    """
    with failures_as_one_line():
        from trainer.evaluation.tables import evaluation_lines

        record = evaluate_run(EvaluationRequest(**options))
    show(*evaluation_lines(record))


if __name__ == "__main__":
    escape_unprintable()
    bound_spinning()
    main()
