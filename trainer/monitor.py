"""What a person sees while it trains: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time

import torch
from torch import Tensor
from tqdm import tqdm

LINE_SECONDS = 15.0
BAR_SECONDS = 0.5  # reading the loss makes the CPU wait for the GPU, so it is not read every step


class Monitor:
    """Loss, accuracy, clips/s and data wait of one epoch."""

    def __init__(self, title: str, steps: int, first_step: int, is_main: bool) -> None:
        self._title, self._steps, self._is_main = title, steps, is_main
        self._is_terminal = sys.stderr.isatty()
        hide = not (is_main and self._is_terminal)
        self._bar = tqdm(total=steps, initial=first_step, desc=title, unit="step", disable=hide, dynamic_ncols=True)
        self._start = self._last = time.monotonic()
        self.clips = 0

    def update(self, step: int, clips: int, sums: Tensor, wait_seconds: float) -> None:
        self.clips += clips
        self._bar.update()
        now = time.monotonic()
        if not self._is_main or now - self._last < (BAR_SECONDS if self._is_terminal else LINE_SECONDS):
            return
        self._last = now
        loss, right, count = sums.tolist()
        count = max(count, 1)
        text = (
            f"loss {loss / count:.3f}, accuracy {right / count:.3f}, {self.clips / (now - self._start):.0f} clips/s, "
            f"data wait {wait_seconds / (now - self._start):.1%}"
        )
        if self._is_terminal:
            self._bar.set_postfix_str(text, refresh=False)
        else:
            print(f"{self._title}: step {step + 1}/{self._steps}, {text}", file=sys.stderr, flush=True)

    def close(self) -> float:
        """Ends the display; the epoch's seconds, the device's work included."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._bar.close()
        return time.monotonic() - self._start
