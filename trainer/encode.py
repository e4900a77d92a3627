"""The command `trainer.encode`: pictures in shards become latents, once for all training on them.

python -m trainer.encode --shards shards/ --vae VAE --out latents/
"""

from __future__ import annotations

from pathlib import Path

import click

from shardify.one_line_errors import failures_as_one_line
from shardify.terminal import escape_unprintable, show
from trainer.config.options import LOCAL, Command, devices_option
from trainer.config.vae import VaeSpec, vae_options
from trainer.devices.threads import bound_spinning
from trainer.tools.latents.encode import EncodeRequest, encode


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--shards", type=LOCAL, required=True, help="A folder of pictures: shardify build --frames 1.")
@vae_options(required=True)
@click.option("-o", "--out", type=LOCAL, required=True, help="The new folder; the same call resumes in it.")
@click.option("--workers", type=click.IntRange(0), default=0, help="Threads that decode pictures.  [default: cores]")
@devices_option
def main(shards: Path, vae: VaeSpec, out: Path, workers: int, devices: str) -> None:
    """Write a shards folder with one member more: the latent of each picture."""
    with failures_as_one_line("interrupted: finished shards are kept; run the same command again to resume"):
        index = encode(EncodeRequest(shards=shards, vae=vae, out=out, devices=devices, workers=workers))
        show(*index.members["latent"].notes(), f"{out}: {len(index.samples)} clips")


if __name__ == "__main__":
    escape_unprintable()
    bound_spinning()
    main()
