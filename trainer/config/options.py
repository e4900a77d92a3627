"""The shared part of all commands: messages on standard error, and options that are given once."""

from __future__ import annotations

from pathlib import Path

import click

from shardify.options import LocalPath
from shardify.terminal import show_log

FOLDER = click.Path(path_type=Path)  # or an address in object storage
LOCAL = LocalPath(path_type=Path)
model_option = click.option(
    "--model",
    "model_class",
    metavar="MODULE:CLASS",
    help="The class of a run with a custom model. Its code is run: trust it.",
)
devices_option = click.option(
    "--devices", type=click.Choice(["auto", "cpu"]), default="auto", show_default=True, help="auto: one GPU, if any."
)


def pairs(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    """NAME=VALUE, given any number of times, as a dict; a callback of click's. Raises click.BadParameter."""
    found: dict[str, str] = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        if not name or not value or found.setdefault(name, value) != value:
            raise click.BadParameter(f"{text}: write NAME=VALUE, each name once")
    return found


class Command(click.Command):
    """A command that shows messages as lines on standard error and refuses an option that is given twice."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _, _, given = self.make_parser(ctx).parse_args(list(args))
        for option in given:
            if isinstance(option, click.Option) and not option.multiple and not option.is_flag:
                count = given.count(option)
                if count > 1:
                    error = click.ClickException(f"{option.opts[0]} is given {count} times; give it once")
                    error.exit_code = 2
                    raise error
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        show_log("trainer", "shardify")
        return super().invoke(ctx)
