"""Two thread pools: readers, which wait for storage, and decoders, which wait for nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

from trainer.data.batches import Values

READERS = 32  # reads under way at once; they only wait, so there are more than cores


class Stages:
    """Two pools of threads that live from pass to pass; they end with `close`, or when nobody holds them any more.

    Every future that it returns is settled, so that no consumer waits for ever.
    """

    def __init__(self, decoders: int) -> None:
        self._readers = ThreadPoolExecutor(READERS, "read")
        self._decoders = ThreadPoolExecutor(decoders, "decode")
        self._is_closed = False
        self.process = os.getpid()  # a fork of it has none of the threads

    def start(self, read: Callable, decode: Callable, number: int, out: Values) -> Future:
        """`read(number)`, then `decode(number, payloads, out)` by a thread of the other pool; the result is `decode`'s.

        What `read` raises is handed to `decode` as the payloads.
        """
        done: Future = Future()
        self._readers.submit(self._read, read, decode, number, out, done)
        return done

    def copy(self, copy: Callable[[int, Values], int], number: int, out: Values) -> Future:
        """`copy(number, out)` by a decoder."""
        return self._decoders.submit(copy, number, out)

    def close(self) -> None:
        """Cancel what has not begun, wait for what has, end the threads; in a fork there is nothing to end."""
        self._is_closed = True
        if self.process != os.getpid():
            return
        self._readers.shutdown()
        self._decoders.shutdown()

    def _read(self, read: Callable, decode: Callable, number: int, out: Values, done: Future) -> None:
        if not done.set_running_or_notify_cancel():
            return
        try:
            payloads = [] if self._is_closed else read(number)
        except Exception as error:
            payloads = error
        try:
            self._decoders.submit(self._decode, decode, number, payloads, out, done)
        except RuntimeError as error:  # the interpreter is ending
            done.set_exception(error)

    def _decode(self, decode: Callable, number: int, payloads: list | Exception, out: Values, done: Future) -> None:
        if self._is_closed:
            done.set_exception(CancelledError())
            return
        try:
            found = decode(number, payloads, out)
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(found)
