"""The cache of decoded clips: after the first epoch, a clip costs a copy, or nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from shardify.format.members import Member
from shardify.machine import free_memory_bytes
from trainer.data.batches import Values, empty_values

TIERS = ("device", "ram", "none")  # the fastest first
RAM_SHARE = 0.5  # of the memory that is free
DEVICE_SHARE = 0.25  # of the device's free memory: the model's activations come later
ALIGNED = 8  # bytes at which the memory of each member begins, for any dtype


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
    """Clips by their place in a split, on one device; filled as they are first seen.

    stored: whether of the members the decoded payloads are kept, not the values that are unpacked from them.
    allot: makes a CPU's memory, which processes may share: they write the same values to the same places.
    """

    def __init__(
        self,
        num_clips: int,
        members: dict[str, Member],
        device: torch.device,
        allot: Callable[[int], Tensor] = private_memory,
        stored: bool = False,
    ) -> None:
        self._on_cpu = device.type == "cpu"  # by NumPy: torch starts threads of its own in every thread that copies
        if self._on_cpu:
            empty = empty_values(members, num_clips, stored=stored, device="meta")
            lengths = [-(-values.nbytes // ALIGNED) * ALIGNED for values in empty.values()]
            *parts, filled = allot(sum(lengths) + num_clips).split([*lengths, num_clips])
            self._clips = {
                name: part[: values.nbytes].view(values.dtype).view(values.shape)
                for (name, values), part in zip(empty.items(), parts, strict=True)
            }
            self._filled = filled.numpy().view(bool)
        else:
            self._clips = empty_values(members, num_clips, stored=stored, device=device)
            self._filled = np.zeros(num_clips, bool)

    @property
    def is_full(self) -> bool:
        return bool(self._filled.all())

    def has(self, places: np.ndarray) -> np.ndarray:
        """bool (B,): which of them are there."""
        return self._filled[places]

    def take(self, places: np.ndarray) -> Values:
        """The clips at these places."""
        if self._on_cpu:
            return {name: torch.from_numpy(kept.numpy()[places]) for name, kept in self._clips.items()}
        return _pick(self._clips, places)

    def copy(self, place: int, out: Values) -> None:
        """Of a cache on the CPU: the clip at a place into `out`, of one clip."""
        for name, kept in self._clips.items():
            out[name].numpy()[...] = kept.numpy()[place]

    def put(self, places: np.ndarray, clips: Values) -> None:
        for name, kept in self._clips.items():
            if self._on_cpu:
                kept.numpy()[places] = clips[name].numpy()
            else:
                kept[device_index(places, kept.device)] = clips[name]
        self._filled[places] = True  # after the values: others may look at any time

    def complete(self, places: np.ndarray, new: np.ndarray, clips: Values | None, is_own: np.ndarray) -> Values:
        """The batch of these places: `clips` at `new`, int64 (N,), the rest from here.

        Keeps those of `clips` that are what their place is for, is_own, bool (N,), and no clip that stands in.
        """
        if clips is not None:
            own = np.flatnonzero(is_own)
            self.put(places[new[own]], clips if is_own.all() else _pick(clips, own))
            if len(new) == len(places):
                return clips
        whole = self.take(places)
        if clips is not None:
            for name, values in whole.items():
                values.index_copy_(0, device_index(new, values.device), clips[name])
        return whole


def make_caches(
    setting: str, count: int, members: dict[str, Member], device: torch.device, allot: Callable[[int], Tensor]
) -> tuple[str, ClipCache | None, ClipCache | None]:
    """What `setting` comes to, a cache of clips on the device, and one of sheets in the host's memory: at most one."""
    chosen = choose_cache(setting, count * sum(member.num_bytes for member in members.values()), device)
    if chosen == "device" or (chosen == "ram" and device.type == "cpu"):
        return chosen, ClipCache(count, members, device, allot), None
    if chosen == "ram":
        return chosen, None, ClipCache(count, members, torch.device("cpu"), allot, stored=True)
    return chosen, None, None


def _pick(values: Values, places: np.ndarray) -> Values:
    """The clips at these places."""
    return {name: torch.index_select(kept, 0, device_index(places, kept.device)) for name, kept in values.items()}


def device_index(places: np.ndarray, device: torch.device) -> Tensor:
    """int64 (B,), for indexing on the device; the CPU does not wait for a GPU."""
    return torch.from_numpy(places).to(device, non_blocking=True)
