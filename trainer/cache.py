"""Decoded clips that stay in memory after the first epoch, so that later epochs cost a copy, or nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

RAM_SHARE = 0.5  # of the memory that is free
DEVICE_SHARE = 0.25  # of the device's free memory: the model's activations come later


def choose_cache(setting: str, num_bytes: int, device: torch.device, world: int = 1) -> str:
    """none | ram | device. `auto` takes the fastest place where `num_bytes` fit; a CPU's own memory is `ram`.

    Each of the `world` processes keeps what it has seen, in the end everything.
    """
    if setting == "device" and device.type == "cpu":
        return "ram"
    if setting != "auto":
        return setting
    if device.type == "cuda" and num_bytes <= DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
        return "device"
    return "ram" if num_bytes * world <= RAM_SHARE * free_memory_bytes() else "none"


def free_memory_bytes() -> int:
    """What this process may still use: the machine's free memory, or its control group's if that is less."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        return free if limit == "max" else min(free, int(limit) - used)
    except (OSError, ValueError):
        return free


class ClipCache:
    """Clips by their place in a split, uint8, on one device; filled as they are first seen."""

    def __init__(self, num_clips: int, clip_shape: tuple[int, ...], device: torch.device) -> None:
        self._clips = torch.empty((num_clips, *clip_shape), dtype=torch.uint8, device=device)
        self._filled = np.zeros(num_clips, bool)
        self.hits = self.misses = 0

    def has(self, places: np.ndarray) -> np.ndarray:
        """bool (B,): which of them are there."""
        there = self._filled[places]
        self.hits += int(there.sum())
        self.misses += int((~there).sum())
        return there

    def take(self, places: np.ndarray) -> Tensor:
        """The clips at these places, (B, *clip_shape)."""
        return torch.index_select(self._clips, 0, self._index(places))

    def copy(self, place: int, out: Tensor) -> None:
        out.copy_(self._clips[place])

    def put(self, places: np.ndarray, clips: Tensor) -> None:
        self._clips[self._index(places)] = clips
        self._filled[places] = True

    def _index(self, places: np.ndarray) -> Tensor:
        return torch.from_numpy(places).to(self._clips.device)
