"""The way of decoded payloads from host buffers to values on the device; the buffers are used again and again."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from shardify.format.members import Member
from trainer.data.batches import Values, empty_values

SPARE = 1  # buffers that rest: the CPU would wait for the copy of one that has only just been handed back


class Transfer:
    """From host buffers that threads have filled with decoded payloads to the members' values on the device."""

    def __init__(self, members: dict[str, Member], capacity: int, device: torch.device) -> None:
        self._members, self._capacity, self._device = members, capacity, device
        self._free: deque[tuple[Values, torch.cuda.Event | None]] = deque()
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def take_buffer(self) -> Values:
        """By member (capacity, *stored_shape), which nothing reads from any more."""
        if len(self._free) > (SPARE if self._stream else 0):
            buffer, copied = self._free.popleft()
            if copied is not None:
                copied.synchronize()
            return buffer
        with torch.inference_mode(False):  # in evaluation too: other threads may not write into inference tensors
            return empty_values(self._members, self._capacity, stored=True, pin_memory=self._stream is not None)

    def to_device(self, buffer: Values, count: int) -> Values:
        """The values of the first `count` clips, (count, *shape) each, on the device; the buffer is free again.

        Copies to a GPU run on their own stream.
        """
        if self._stream is None:
            clips = self._unpack(buffer, count)
            self._free.append((buffer, None))
            return clips
        with torch.cuda.stream(self._stream):
            clips = self._unpack(buffer, count)
            copied = torch.cuda.Event()
            copied.record()
        self._free.append((buffer, copied))
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        for values in clips.values():
            values.record_stream(torch.cuda.current_stream(self._device))
        return clips

    def drop_buffers(self) -> None:
        self._free.clear()

    def _unpack(self, buffer: Values, count: int) -> Values:
        return {
            name: member.unpack(buffer[name][:count].to(self._device, non_blocking=True), contiguous_copy)
            for name, member in self._members.items()
        }


def contiguous_copy(values: Tensor) -> Tensor:
    """Contiguous. On a CPU by NumPy, in one thread: torch's would spin for the cores that the decoders use."""
    if values.device.type == "cpu":
        return torch.from_numpy(values.numpy().copy(order="C"))
    return values.contiguous()
