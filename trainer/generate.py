"""The command `trainer.generate`: synthetic pictures from a run of the task diffusion.

python -m trainer.generate --run runs/x --vae vae/ --all --per-class 50 --out syn/
"""

from __future__ import annotations

from pathlib import Path

import click

from shardify.one_line_errors import failures_as_one_line
from shardify.options import FiniteRange
from shardify.terminal import escape_unprintable, show
from trainer.config.options import LOCAL, Command, devices_option
from trainer.config.vae import vae_options
from trainer.devices.threads import bound_spinning
from trainer.errors import SettingsError
from trainer.tasks.diffusion.sampling import SAMPLERS
from trainer.tools.synthetic.generate import GenerateRequest, generate

RESUME = "interrupted; the same command continues"


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--run", type=LOCAL, required=True, help="Folder of the run.")
@click.option(
    "--checkpoint", default="best", show_default=True, metavar="STEP|best|last",
    help="A step of model.keep_steps, the best by validation's loss, or the newest.",
)  # fmt: skip
@vae_options(required=True)
@click.option("--all", "every_class", is_flag=True, help="Pictures of every class.")
@click.option("--classes", multiple=True, metavar="CLASS", help="A class; may be repeated.")
@click.option("--per-class", type=click.IntRange(1, 99_999), default=50, show_default=True, help="Pictures of each.")
@click.option(
    "--guidance", type=FiniteRange(0), default=1.0, show_default=True,
    help="1: the model as it is; above, its classes are clearer and its pictures more alike; 0: no class.",
)  # fmt: skip
@click.option(
    "--rescale", type=FiniteRange(0, 1), default=0.0, show_default=True,
    help="How far guided predictions are scaled back to the spread of unguided ones.",
)  # fmt: skip
@click.option("--sampler", type=click.Choice(list(SAMPLERS)), default="ddim", show_default=True)
@click.option("--steps", type=click.IntRange(1), default=50, show_default=True, help="Steps of the sampler.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=16, show_default=True, help="Pictures at once.")
@devices_option
@click.option("--out", type=LOCAL, required=True, help="Folder of the pictures; one that was begun is continued.")
def main(out: Path, every_class: bool, **options) -> None:
    """Write PNGs, OUT/CLASS/CLASS-sSEED-NUMBER.png, with a mark that keeps them out of val and test."""
    with failures_as_one_line(RESUME, "; fix that, and the same command continues"):
        if every_class == bool(options["classes"]):
            raise SettingsError("pass either --all or --classes CLASS, which may be repeated")
        count = generate(GenerateRequest(**options), out)
        show(f"{out}: {count} pictures; next: shardify build {out} SHARDS --manifest {out / 'manifest.csv'} --frames 1")


if __name__ == "__main__":
    escape_unprintable()
    bound_spinning()
    main()
