"""The way of decoded sheets from host buffers to frames on the device; the buffers are used again and again."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from shardify.format.members.frames import grid_shape

SPARE = 1  # buffers that rest: the CPU would wait for the copy of one that has only just been handed back


class Transfer:
    """From a host buffer (B, *host_shape) that threads have filled to clips uint8 (B, T, S, S, 3) on the device."""

    def __init__(self, codec: str, frames: int, size: int, capacity: int, device: torch.device) -> None:
        self._codec, self._frames, self._size, self._capacity, self._device = codec, frames, size, capacity, device
        rows, columns = grid_shape(frames)
        self.host_shape = (frames, size, size, 3) if codec == "raw" else (rows * size, columns * size, 3)
        self._free: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def take_buffer(self) -> Tensor:
        """uint8 (capacity, *host_shape), which nothing reads from any more."""
        if len(self._free) > (SPARE if self._stream else 0):
            buffer, copied = self._free.popleft()
            if copied is not None:
                copied.synchronize()
            return buffer
        with torch.inference_mode(False):  # in evaluation too: other threads may not write into inference tensors
            shape = (self._capacity, *self.host_shape)
            return torch.empty(shape, dtype=torch.uint8, pin_memory=self._stream is not None)

    def to_clips(self, buffer: Tensor, count: int) -> Tensor:
        """The first `count` as uint8 (count, T, S, S, 3) on the device; the buffer is free again.

        Copies to a GPU run on their own stream.
        """
        if self._stream is None:
            clips = self._cut(buffer[:count])
            self._free.append((buffer, None))
            return clips
        with torch.cuda.stream(self._stream):
            clips = self._cut(buffer[:count].to(self._device, non_blocking=True))
            copied = torch.cuda.Event()
            copied.record()
        self._free.append((buffer, copied))
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        clips.record_stream(torch.cuda.current_stream(self._device))
        return clips

    def drop_buffers(self) -> None:
        self._free.clear()

    def _cut(self, buffer: Tensor) -> Tensor:
        """Sheets (B, rows·S, columns·S, 3) cut into frames (B, T, S, S, 3), a copy."""
        if self._codec == "raw":
            return contiguous_copy(buffer)
        size, (rows, columns) = self._size, grid_shape(self._frames)
        cells = buffer.view(len(buffer), rows, size, columns, size, 3).transpose(2, 3)
        return contiguous_copy(cells).flatten(1, 2)[:, : self._frames]


def contiguous_copy(clips: Tensor) -> Tensor:
    """Contiguous. On a CPU by NumPy, in one thread: torch's would spin for the cores that the decoders use."""
    if clips.device.type == "cpu":
        return torch.from_numpy(clips.numpy().copy(order="C"))
    return clips.contiguous()
