"""Output for people, fit for any terminal."""

from __future__ import annotations

import io
import logging
import sys

import click

from shardify.text import printable


def escape_unprintable() -> None:
    """Print \\x… and \\u… for what the encoding of standard output lacks, as the interpreter does on standard error.

    So a name in any script is no traceback, nor one that is not UTF-8. Streams of other kinds stay as they are.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def show(*lines: object) -> None:
    """Results for people, a line each, in which nothing that others have written commands the terminal."""
    for line in lines:
        click.echo(printable(str(line)))


def warn(line: object) -> None:
    """What the user should know beside the results."""
    click.echo(printable(str(line)), err=True)


class _Lines(logging.Handler):
    """Messages as plain lines on standard error, whatever that is by then; a warning says that it is one."""

    def emit(self, record: logging.LogRecord) -> None:
        warn(f"{'warning: ' if record.levelno >= logging.WARNING else ''}{record.getMessage()}")


_LINES = _Lines()


def show_log(*packages: str) -> None:
    """Let `warn` show what the packages log. For programs: in others, logging's own settings hold."""
    for package in packages:
        logger = logging.getLogger(package)
        logger.addHandler(_LINES)  # which is added once, however often it is asked for
        logger.setLevel(logging.INFO)
