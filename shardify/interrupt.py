"""Ctrl-C once: finish the shard in hand; twice: stop now."""

from __future__ import annotations

import os
import signal
import threading

NOTICE = b"\nstopping when the shard in hand is finished; press Ctrl-C again to stop now\n"


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
            raise KeyboardInterrupt
        self.requested = True
        os.write(2, NOTICE)  # not print: the signal may have come in the middle of one
