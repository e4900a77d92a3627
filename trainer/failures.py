"""What stops a command → one line and an exit code, for the commands that use a finished run."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from trainer.errors import ShardifyError, TrainerError


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
        engine = sys.modules.get("trainer.engine")  # not imported for this: `--help` is quick
        if engine is None or not engine.is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
        _fail(f"error: out of memory ({reason}); end what else uses the GPU, or pass --devices cpu", 1)


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
