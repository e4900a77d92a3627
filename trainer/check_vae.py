"""The command `trainer.check_vae`: whether an autoencoder suits pictures, before they are encoded.

python -m trainer.check_vae --vae VAE --shards shards/
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from shardify.one_line_errors import failures_as_one_line
from shardify.terminal import escape_unprintable, show, warn
from trainer.config.options import FOLDER, Command, devices_option
from trainer.config.vae import VaeSpec, vae_options
from trainer.devices.threads import bound_spinning
from trainer.tools.latents.check import CheckRequest, check_vae


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@vae_options(required=True)
@click.option("--shards", type=FOLDER, required=True, help="A folder of pictures.")
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="train", show_default=True)
@click.option("--pictures", type=click.IntRange(1), default=64, show_default=True, help="Spread over the split.")
@devices_option
def main(shards: Path, vae: VaeSpec, **options) -> None:
    """Print what an autoencoder makes of pictures: range, latents, losses; exit code 1 where it cannot be used."""
    with failures_as_one_line():
        lines, wrong = check_vae(CheckRequest(shards=shards, vae=vae, **options))
    show(*lines)
    for line in wrong:
        warn(f"error: {line}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    escape_unprintable()
    bound_spinning()
    main()
