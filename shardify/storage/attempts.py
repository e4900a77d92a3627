"""The bounds of what goes over a network: several tries, and then one line with the last cause."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from shardify.errors import StorageError
from shardify.storage.address import Address

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds between two tries


@dataclass(frozen=True)
class Bounds:
    """How long one operation may take, in seconds, and how often it is tried."""

    connect: float = 5.0
    request: float = 30.0  # to the last byte of its answer
    tries: int = 6
    total: float = 120.0  # with all tries and pauses


BOUNDS = Bounds()


class TryAgain(Exception):
    """A failure that may pass; `after` is how many seconds the server asks to wait."""

    def __init__(self, cause: str, after: float = 0.0) -> None:
        super().__init__(cause)
        self.after = after


def attempt(address: Address, action: Callable[[], T]) -> T:
    """What the action returns, which is tried again after TryAgain. Raises StorageError within the bounds."""
    start = time.monotonic()
    for tries in itertools.count(1):
        try:
            return _interruptible(action)
        except TryAgain as failure:
            pause = max(failure.after, random.uniform(0.5, 1) * min(FIRST_PAUSE * 2 ** (tries - 1), LONGEST_PAUSE))
            elapsed = time.monotonic() - start
            if tries == BOUNDS.tries or elapsed + pause + BOUNDS.request > BOUNDS.total:
                raise StorageError(
                    f"{address}: failed {tries} times in {elapsed:.0f} s, the last time with: {failure}; look at the "
                    f"network and the server, then run the same command again"
                ) from failure
        time.sleep(pause)
    raise AssertionError


def _interruptible(action: Callable[[], T]) -> T:
    """What the action returns; Ctrl-C does not wait for its answer, which takes a thread that is left behind then."""
    if threading.current_thread() is not threading.main_thread():
        return action()
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(action())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="request", daemon=True).start()
    return done.result()
