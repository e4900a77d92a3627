"""What stops a command → one line and an exit code, for the commands that use a finished run."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import click

from trainer.errors import ShardifyError, TrainerError, is_out_of_memory

T = TypeVar("T")

model_option = click.option(
    "--model",
    "model_class",
    metavar="MODULE:CLASS",
    help="The class of a run with a custom model. Its code is run: trust it.",
)


@contextmanager
def failures_as_one_line() -> Iterator[None]:
    """Errors that a user can mend end the program: one line, and 130 after Ctrl-C, else the error's own code."""
    try:
        yield
    except ShardifyError as error:
        _fail(f"error: {error}", error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except BrokenPipeError:
        raise  # `… | head`: click ends without a word
    except OSError as error:
        _fail(f"error: {error}", 1)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
        _fail(f"error: out of memory ({reason}); end what else uses the GPU, or pass --devices cpu", 1)


def in_parts(run: Callable[[int], T], parts: int, most: int) -> T:
    """run(parts), and where memory runs out, again in twice as many, up to `most`, where it raises what `run` does."""
    while True:
        try:
            return run(parts)
        except RuntimeError as error:
            if not is_out_of_memory(error) or parts >= most:
                raise
        parts = min(2 * parts, most)  # here, where the error no longer holds the tensors
        click.echo(f"warning: out of memory; again, in {parts} parts", err=True)


def check_writable(path: Path) -> None:
    """See to it that a file can be written there, before the hours that its content takes.

    Makes the folder. Raises TrainerError.
    """
    try:
        if path.exists() and not path.is_file():
            raise TrainerError(f"{path}: is not a regular file; pass another name")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise TrainerError(f"{path}: cannot be written ({error.strerror}); pass another name") from error


def _fail(line: str, code: int) -> None:
    click.echo(line, err=True)
    sys.exit(code)
