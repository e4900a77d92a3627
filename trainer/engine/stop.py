"""The reasons to stop early at a step, a signal or the session's time, and how several ranks agree on it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from trainer.errors import STOPPED_AT_ONCE, Interrupted

if TYPE_CHECKING:
    from trainer.devices.distributed import Group


REPEAT_SECONDS = 5.0  # in which a second SIGTERM is the first once more: directly, and passed on by the launcher
VOTE_SECONDS = 1.0  # from one vote to the next, about
VOTE_STEPS = 10  # and at most, so that steps which have become slow are soon noticed


@contextlib.contextmanager
def resumable_end() -> Iterator[None]:
    """While entered, SIGTERM ends this process at once, as a run to go on with, where no StopWatch holds the signal.

    That is before the first step, and in the final report: there is nothing to save, and a folder survives any end.
    """

    def leave(*_) -> None:
        with contextlib.suppress(OSError):
            os.write(2, f"error: {STOPPED_AT_ONCE}\n".encode())
        os._exit(Interrupted.exit_code)  # an exception could be caught on its way, by libraries that try imports

    old = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


class StopWatch:
    """The watch over signals and the time: `reason` is set once the run should end. A second signal ends it at once.

    Only a SIGTERM that follows another within REPEAT_SECONDS does not: managers that send it to every process, as
    Slurm's scancel does, reach a process directly and through its launcher.
    """

    def __init__(self, max_hours: float | None) -> None:
        self.reason: str | None = None
        self._first_at: float | None = None  # when the first signal came
        self._deadline = None if max_hours is None else time.monotonic() + 3600 * max_hours
        self._old = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}

    def check(self) -> str | None:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self.reason = self.reason or "max_hours is over"
        return self.reason

    def close(self) -> None:
        self._put_back(*self._old)

    def _put_back(self, *numbers: int) -> None:
        for number in numbers:
            signal.signal(number, self._old[number])

    def _on_signal(self, number: int, frame: object) -> None:
        now = time.monotonic()
        if self._first_at is None:
            self._first_at, self.reason = now, f"stopped by {signal.Signals(number).name}"
            # after SIGINT both: torch's launcher passes a second Ctrl-C on as SIGTERM
            self._put_back(*(self._old if number == signal.SIGINT else [signal.SIGINT]))
        elif now - self._first_at >= REPEAT_SECONDS:
            self.close()
            signal.raise_signal(number)


class Votes:
    """The steps after which the ranks of a group vote on whether to stop, the same on all of them.

    A vote makes the CPU wait for the GPU, so quick steps share one. Slow steps have one each: what asks processes to
    end kills them half a minute later. The main rank's clock says with each vote when the next one is.
    """

    def __init__(self, group: Group) -> None:
        self._group = group
        self._last, self._steps, self._next = time.monotonic(), 0, 1

    def after_step(self, wants_to_stop: bool, is_last: bool) -> bool:
        """Whether to stop here. Every rank calls it after every step; alone, a rank decides for itself.

        is_last: of its epoch; there is always a vote after it, as validation takes long.
        """
        self._steps += 1
        if self._group.world == 1:
            return wants_to_stop
        if self._steps < self._next and not is_last:
            return False
        pace = steps_to_next_vote(self._steps, time.monotonic() - self._last) if self._group.is_main else 0
        stops, self._next = self._group.largest(int(wants_to_stop), pace)
        self._last, self._steps = time.monotonic(), 0
        return bool(stops)


def steps_to_next_vote(steps: int, seconds: float) -> int:
    """The number of steps to the next vote, from how long those since the last vote took."""
    return int(min(max(VOTE_SECONDS * steps / max(seconds, 1e-9), 1), VOTE_STEPS))
