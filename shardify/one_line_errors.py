"""One policy for errors: what a user can mend is one line and an exit code, in every command."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from shardify.errors import ShardifyError
from shardify.interrupt import GO_ON, INTERRUPTED
from shardify.machine import is_out_of_memory
from shardify.terminal import warn


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


def _fail(line: str, code: int) -> None:
    click.echo(line, err=True)
    sys.exit(code)


def one_line_errors(command):
    """Every failure is one line on stderr and its own exit code, never a traceback."""

    @functools.wraps(command)
    def wrapped(*args, **kwargs):
        try:
            return command(*args, **kwargs)
        except ShardifyError as error:
            warn(f"error: {error}")
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            warn(GO_ON)
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            raise  # nobody reads on, as behind `| head`: click ends the program without a word
        except OSError as error:
            warn(f"error: {error}; mend that and run the same command again to go on")
            sys.exit(1)

    return wrapped
