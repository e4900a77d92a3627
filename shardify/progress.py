"""Progress for people: a bar on a terminal, a plain line every few seconds elsewhere (logs are streams of lines)."""

from __future__ import annotations

import os
import sys
import time

from tqdm import tqdm

LINE_SECONDS = 5.0


def shows_bars() -> bool:
    """Whether stderr is a terminal; what a notebook's `!` takes for one keeps every redrawing of a bar."""
    return sys.stderr.isatty() and "JPY_PARENT_PID" not in os.environ  # which kernels have, and their children


class Progress:
    """Counts videos, or what else `unit` names, that are done and those that failed."""

    def __init__(self, total: int, unit: str = "video") -> None:
        self._unit = unit
        self._is_terminal = shows_bars()
        self._bar = tqdm(total=total, unit=unit, disable=not self._is_terminal, smoothing=0.1, dynamic_ncols=True)
        self._total, self._done, self._clips, self._failed = total, 0, 0, 0
        self._start = self._last = time.monotonic()

    def advance(self, clips: int, failed: bool, remark: str = "") -> None:
        """One more is done; the remark is shown beside the counts."""
        self._done += 1
        self._failed += failed
        self._clips += clips
        rate = self._clips / max(time.monotonic() - self._start, 1e-9)
        said = ", ".join(filter(None, [f"{rate:.1f} clips/s, {self._failed} failed", remark]))
        self._bar.set_postfix_str(said, refresh=False)
        self._bar.update()
        now = time.monotonic()
        if not self._is_terminal and (now - self._last >= LINE_SECONDS or self._done == self._total):
            self._last = now
            self._print_line(now - self._start, said)

    def close(self) -> None:
        self._bar.close()

    def _print_line(self, seconds: float, said: str) -> None:
        rate = self._done / max(seconds, 1e-9)
        left = tqdm.format_interval((self._total - self._done) / rate)
        share = 100 * self._done // self._total
        print(f"{self._done}/{self._total} {self._unit}s ({share}%), {said}, {left} left", file=sys.stderr, flush=True)
