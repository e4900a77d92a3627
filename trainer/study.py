"""The command `trainer.study`: what synthetic pictures give a classifier, against real ones alone.

python -m trainer.study --shards shards/ --synthetic syn50k-shards/ --synthetic syn150k-shards/ --out runs/study
"""

from __future__ import annotations

from pathlib import Path

import click

from shardify.one_line_errors import failures_as_one_line
from shardify.terminal import escape_unprintable, show
from trainer.config.options import FOLDER, LOCAL, Command, devices_option
from trainer.config.vae import vae_options
from trainer.devices.threads import bound_spinning


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--shards", type=FOLDER, required=True, help="Shards of real pictures: train, test, best also val.")
@click.option("--synthetic", type=FOLDER, multiple=True, help="Shards of synthetic pictures; may be repeated.")
@vae_options(required=False)
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True, help="Repetitions of each arm.")
@click.option("--steps", type=click.IntRange(1), default=2000, show_default=True, help="Optimizer steps of each.")
@click.option(
    "--per-class", type=click.IntRange(1), multiple=True, default=(25, 50, 100), show_default=True,
    help="Synthetic pictures of each class that join the real ones; an arm for each.",
)  # fmt: skip
@click.option("--arm", "arms", multiple=True, metavar="NAME", help="Only this arm, and real.  [default: all]")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting of the classifier.")
@click.option("--out", type=LOCAL, default=Path("runs/study"), show_default=True, help="Again: what is done stays.")
@devices_option
def main(**options) -> None:
    """Train the same classifier on real, synthetic and mixed pictures, and say what differs, with intervals."""
    with failures_as_one_line():
        from trainer.tools.study.report import study_lines
        from trainer.tools.study.study import StudyRequest, study

        record = study(StudyRequest(**options))
    show(*study_lines(record), f"tables and pictures: {options['out'] / 'study.md'}")


if __name__ == "__main__":
    escape_unprintable()
    bound_spinning()
    main()
