"""The shared part of all commands: messages on standard error, and options that are given once."""

from __future__ import annotations

import logging
import sys

import click

from shardify.text import printable

model_option = click.option(
    "--model",
    "model_class",
    metavar="MODULE:CLASS",
    help="The class of a run with a custom model. Its code is run: trust it.",
)


class _Lines(logging.Handler):
    """Messages as plain lines on standard error, whatever that is by then; a warning says that it is one."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        print(printable(f"{prefix}{record.getMessage()}"), file=sys.stderr, flush=True)


_LINES = _Lines()


def log_to_stderr() -> None:
    """Show the trainer's messages; without it, as in other programs, logging's own settings hold."""
    logger = logging.getLogger("trainer")
    logger.addHandler(_LINES)  # which is added once, however often it is asked for
    logger.setLevel(logging.INFO)


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
        log_to_stderr()
        return super().invoke(ctx)
