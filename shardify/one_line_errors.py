"""One policy for errors: what a user can fix is one line and an exit code, in every command."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from shardify.errors import ShardifyError
from shardify.interrupt import INTERRUPTED, RESUME
from shardify.machine import is_out_of_memory
from shardify.terminal import warn


@contextmanager
def failures_as_one_line(interrupted: str = "interrupted", remedy: str = "") -> Iterator[None]:
    """Errors that a user can fix end the program: one line, and 130 after Ctrl-C, else the error's own code.

    interrupted: the line after Ctrl-C. remedy: what follows an error of the system.
    """
    try:
        yield
    except ShardifyError as error:
        _fail(f"error: {error}", error.exit_code)
    except KeyboardInterrupt:
        _fail(interrupted, INTERRUPTED)
    except BrokenPipeError:
        raise  # nobody reads on, as behind `| head`: click ends the program without a word
    except OSError as error:
        _fail(f"error: {error}{remedy}", 1)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
        _fail(f"error: out of memory ({reason}); end what else uses the GPU, or pass --devices cpu", 1)


def _fail(line: str, code: int) -> None:
    warn(line)
    sys.exit(code)


def one_line_errors(command):
    """The same for a command of `shardify`, which resumes where it is run again."""

    @functools.wraps(command)
    def wrapped(*args, **kwargs):
        with failures_as_one_line(RESUME, "; fix that and run the same command again to resume"):
            return command(*args, **kwargs)

    return wrapped
