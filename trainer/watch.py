"""The command `trainer.watch`: how far a run of the task diffusion is, and what goes wrong in it.

python -m trainer.watch --run runs/x --once
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from shardify.one_line_errors import failures_as_one_line
from shardify.options import FiniteRange
from shardify.terminal import escape_unprintable, show
from trainer.config.options import LOCAL, Command
from trainer.tools.synthetic.watch import watch


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--run", type=LOCAL, required=True, help="Folder of the run.")
@click.option("--once", is_flag=True, help="Show it once, instead of until the run is over.")
@click.option("--every", "seconds", type=FiniteRange(1), default=60, show_default=True, help="Seconds.")
def main(run: Path, once: bool, seconds: float) -> None:
    """Show how far a run is, the time left, and a line with a remedy for each thing that goes wrong.

    The exit code is 0 where all is well, 1 where something was found.
    """
    with failures_as_one_line():
        is_well = watch(run, once, seconds, show)
    sys.exit(0 if is_well else 1)


if __name__ == "__main__":
    escape_unprintable()
    main()
