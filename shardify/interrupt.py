"""Handling of Ctrl-C: once finishes what was begun, twice stops now; outside of a build the program ends at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading

INTERRUPTED = 130  # exit code
NOTICE = "\nstopping when every shard that was begun is finished; press Ctrl-C again to stop now"
RESUME = "interrupted: what is finished is kept; run the same command again to resume"


class Interrupts:
    """While entered, the first SIGINT sets `requested` and says so; the next one raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.requested = False
        self._outer = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._outer = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_) -> None:
        if self._outer is not None:
            signal.signal(signal.SIGINT, self._outer)

    def _note(self, *_) -> None:
        if self.requested:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a third one must not stop the clearing up
            raise KeyboardInterrupt
        self.requested = True
        _say(NOTICE)


def leave_at_once(*_) -> None:
    """Handler of the program's SIGINT: a folder survives any end, so nothing needs to be unwound."""
    _say(RESUME)
    os._exit(INTERRUPTED)


def _say(line: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode())  # not print: the signal may have come in the middle of one
