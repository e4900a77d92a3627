"""The shared part of all commands: messages on standard error, and options that are given once."""

from __future__ import annotations

import click

from shardify.terminal import show_log

model_option = click.option(
    "--model",
    "model_class",
    metavar="MODULE:CLASS",
    help="The class of a run with a custom model. Its code is run: trust it.",
)


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
