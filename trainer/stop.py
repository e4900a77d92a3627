"""Reasons to stop early at a step boundary: a signal, or the session's time."""

from __future__ import annotations

import signal
import time


class StopWatch:
    """`reason` is set once the run should checkpoint and end. A second signal ends it at once."""

    def __init__(self, max_hours: float | None) -> None:
        self.reason: str | None = None
        self._deadline = None if max_hours is None else time.monotonic() + 3600 * max_hours
        self._old = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}

    def check(self) -> str | None:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self.reason = self.reason or "max_hours is over"
        return self.reason

    def close(self) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: object) -> None:
        self.reason = f"stopped by {signal.Signals(number).name}"
        self.close()  # both: torch's launcher passes a second Ctrl-C on as SIGTERM
