"""The autoencoder that a command works with, as its options name it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import click

from shardify.options import LocalPath
from trainer.config.settings import CLASS_PATH

RANGES = {"-1..1": (-1.0, 1.0), "0..1": (0.0, 1.0)}  # of pixels, as an autoencoder takes them


@dataclass(frozen=True, kw_only=True)
class VaeSpec:
    """The autoencoder that is meant: a diffusers folder, a file of weights with its config, or a class.

    Who writes a run's or a folder's record chooses none: the class's code is run, so the user names it.
    """

    vae: str  # a folder, a file, or package.module:Class
    config: Path | None = None  # JSON of diffusers.AutoencoderKL, where `vae` is a file of weights
    weights: Path | None = None  # of a class
    options: dict = field(default_factory=dict)  # keyword arguments of a class
    input_range: tuple[float, float] | None = None  # of the pixels; None: the class's own, else -1 to 1

    @property
    def is_class(self) -> bool:
        return CLASS_PATH.fullmatch(self.vae) is not None and not Path(self.vae).exists()


def _json_object(_context: click.Context, _option: click.Parameter, text: str) -> dict:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f'{text}: is not JSON ({error}); write it as {{"channels": 8}}') from error
    if not isinstance(values, dict):
        raise click.BadParameter(f'{text}: is no JSON object; write it as {{"channels": 8}}')
    return values


def vae_options(*, required: bool) -> Callable[[Callable], Callable]:
    """A decorator of click commands: the options that name an autoencoder, which come as one value, `vae`.

    It is a VaeSpec, or None where --vae is not given.
    """
    file = LocalPath(path_type=Path)
    options = (
        click.option(
            "--vae",
            required=required,
            help="A diffusers folder, a weights file, or package.module:Class, whose code is run: trust it.",
        ),
        click.option("--vae-config", type=file, help="JSON of diffusers' AutoencoderKL, for a weights file."),
        click.option("--vae-weights", type=file, help="The weights of a class."),
        click.option("--vae-options", callback=_json_object, default="{}", help="Its keyword arguments, as JSON."),
        click.option(
            "--vae-range",
            type=click.Choice(list(RANGES)),
            help="Of the pixels that it takes and gives.  [default: the class's own, else -1..1]",
        ),
    )

    def decorate(command: Callable) -> Callable:
        @functools.wraps(command)
        def with_spec(*, vae, vae_config, vae_weights, vae_options, vae_range, **others):
            named = {"config": vae_config, "weights": vae_weights, "options": vae_options}
            if not vae and (given := [name for name, value in {**named, "range": vae_range}.items() if value]):
                raise click.UsageError(f"--vae-{given[0]} is of an autoencoder, which --vae names; pass --vae, too")
            spec = VaeSpec(vae=vae, **named, input_range=RANGES.get(vae_range)) if vae else None
            return command(vae=spec, **others)

        for option in reversed(options):
            with_spec = option(with_spec)
        return with_spec

    return decorate
