"""The cache of decoded clips: after the first epoch, a clip costs a copy, or nothing."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from shardify.machine import free_memory_bytes

TIERS = ("device", "ram", "none")  # the fastest first
RAM_SHARE = 0.5  # of the memory that is free
DEVICE_SHARE = 0.25  # of the device's free memory: the model's activations come later


def choose_cache(setting: str, num_bytes: int, device: torch.device) -> str:
    """none | ram | device. `auto` takes the fastest place where `num_bytes` fit; a CPU's own memory is `ram`."""
    if setting == "device" and device.type == "cpu":
        return "ram"
    if setting != "auto":
        return setting
    if device.type == "cuda" and num_bytes <= DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
        return "device"
    return "ram" if num_bytes <= RAM_SHARE * free_memory_bytes() else "none"


def explain_choice(cache: str, num_bytes: int, device: torch.device) -> str:
    """For people: what `auto` has chosen, and from what."""
    free = f"{free_memory_bytes() / 1e9:.1f} GB of memory"
    if device.type == "cuda":
        free += f" and {torch.cuda.mem_get_info(device)[0] / 1e9:.1f} GB on the GPU"
    return f"cache: auto chose {cache}; the decoded clips take {num_bytes / 1e9:.1f} GB, {free} are free"


def private_memory(num_bytes: int) -> Tensor:
    """uint8 (num_bytes,), zeros, of this process alone; taken page by page as it is written."""
    return torch.from_numpy(np.zeros(num_bytes, np.uint8))


class ClipCache:
    """Clips by their place in a split, uint8, on one device; filled as they are first seen.

    allot: makes a CPU's memory, which processes may share: they write the same pixels to the same places.
    """

    def __init__(
        self,
        num_clips: int,
        clip_shape: tuple[int, ...],
        device: torch.device,
        allot: Callable[[int], Tensor] = private_memory,
    ) -> None:
        self._on_cpu = device.type == "cpu"  # by NumPy: torch starts threads of its own in every thread that copies
        if self._on_cpu:
            num_bytes = num_clips * math.prod(clip_shape)
            memory = allot(num_bytes + num_clips)
            self._clips = memory[:num_bytes].view(num_clips, *clip_shape)
            self._filled = memory[num_bytes:].numpy().view(bool)
        else:
            self._clips = torch.empty((num_clips, *clip_shape), dtype=torch.uint8, device=device)
            self._filled = np.zeros(num_clips, bool)

    @property
    def is_full(self) -> bool:
        return bool(self._filled.all())

    def has(self, places: np.ndarray) -> np.ndarray:
        """bool (B,): which of them are there."""
        return self._filled[places]

    def take(self, places: np.ndarray) -> Tensor:
        """The clips at these places, (B, *clip_shape)."""
        if self._on_cpu:
            return torch.from_numpy(self._clips.numpy()[places])
        return torch.index_select(self._clips, 0, device_index(places, self._clips.device))

    def copy(self, place: int, out: Tensor) -> None:
        """Of a cache on the CPU: the clip at a place into `out`."""
        out.numpy()[...] = self._clips.numpy()[place]

    def put(self, places: np.ndarray, clips: Tensor) -> None:
        if self._on_cpu:
            self._clips.numpy()[places] = clips.numpy()
        else:
            self._clips[device_index(places, self._clips.device)] = clips
        self._filled[places] = True  # after the pixels: others may look at any time

    def complete(self, places: np.ndarray, new: np.ndarray, clips: Tensor | None, is_own: np.ndarray) -> Tensor:
        """The batch of these places, (B, *clip_shape): `clips` at `new`, int64 (N,), the rest from here.

        Keeps those of `clips` that are what their place is for, is_own, bool (N,), and no clip that stands in.
        """
        if clips is not None:
            own = np.flatnonzero(is_own)
            self.put(places[new[own]], clips if is_own.all() else clips[device_index(own, clips.device)])
            if len(new) == len(places):
                return clips
        whole = self.take(places)
        if clips is not None:
            whole.index_copy_(0, device_index(new, whole.device), clips)
        return whole


def make_caches(
    setting: str, count: int, clip_shape: tuple, sheet_shape: tuple, device: torch.device, allot: Callable
) -> tuple[str, ClipCache | None, ClipCache | None]:
    """What `setting` comes to, a cache of clips on the device, and one of sheets in the host's memory: at most one."""
    chosen = choose_cache(setting, count * math.prod(clip_shape), device)
    if chosen == "device" or (chosen == "ram" and device.type == "cpu"):
        return chosen, ClipCache(count, clip_shape, device, allot), None
    if chosen == "ram":
        return chosen, None, ClipCache(count, sheet_shape, torch.device("cpu"), allot)
    return chosen, None, None


def device_index(places: np.ndarray, device: torch.device) -> Tensor:
    """int64 (B,), for indexing on the device; the CPU does not wait for a GPU."""
    return torch.from_numpy(places).to(device, non_blocking=True)
