"""Sample numbers → uint8 batches (B, T, 3, S, S) on the device, ahead of time.

Reading and decoding are separate stages: reader threads hide slow storage, decoder threads (the JPEG decoder lets
go of the interpreter's lock) write straight into reused batch buffers, pinned where there is a GPU.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shardify import sheet
from trainer.cache import ClipCache, choose_cache
from trainer.errors import FormatError
from trainer.order import epoch_order, num_steps, rank_batch
from trainer.payload import decode_into
from trainer.shards import ShardSet, open_shards

READERS = 8  # reads under way at once
AHEAD = 4  # batches that are being read and decoded while one is in use
DAMAGE = (FormatError, ValueError, RuntimeError, OSError)  # what a damaged payload makes the decoders raise


@dataclass(frozen=True)
class Batch:
    clips: Tensor  # uint8 (B, T, 3, S, S), channels last in memory, on the device
    labels: Tensor  # int64 (B,), on the device
    numbers: np.ndarray  # int64 (B,), the clips' numbers in samples.npy
    mask: np.ndarray  # bool (B,), False where a clip only pads


@dataclass
class _Pending:
    numbers: np.ndarray
    mask: np.ndarray
    decoded: np.ndarray  # places in the batch of the clips in `buffer`; the others come from the device's cache
    buffer: Tensor | None = None  # host memory
    futures: list[Future] = field(default_factory=list)


class ClipLoader:
    """Batches of one split of a shards folder, for any training loop: `for clips, labels in ClipLoader(…)`.

    Each pass over it is one epoch, in a new order where it shuffles. clips: uint8 (B, T, 3, S, S); labels: int64
    (B,). The last batch may be smaller. Raises FormatError when the folder or a clip is damaged; with on_error
    "skip", a damaged clip is replaced by the next one (in evaluation: masked) and counted in `damaged`.
    """

    def __init__(
        self,
        shards: ShardSet | Path | str,
        split: str = "train",
        batch_size: int = 16,
        *,
        shuffle: bool | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        cache: str = "none",
        workers: int = 0,
        on_error: str = "stop",
        max_errors: float = 0.01,
        balanced: bool = False,
        shuffle_shards: int = 0,
        numbers: np.ndarray | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.shards = shards if isinstance(shards, ShardSet) else open_shards(shards)
        self.numbers = self.shards.numbers(split) if numbers is None else numbers
        if len(self.numbers) == 0:
            raise FormatError(f"{self.shards.folder}: has no {split} split")
        self.batch_size, self.seed, self.rank, self.world = batch_size, seed, rank, world
        self.shuffle = split == "train" if shuffle is None else shuffle
        self.balanced, self.shuffle_shards = balanced, shuffle_shards
        self.device = torch.device(device)
        self.workers = workers or len(os.sched_getaffinity(0))
        self.on_error, self.max_errors = on_error, max_errors
        self.epoch = 0
        self.wait_seconds = 0.0  # time that the consumer has waited for data
        self.damaged: dict[int, str] = {}  # number → what is wrong with it
        self._replaced: dict[int, int] = {}  # number → number of the clip that stands in for it
        frames, size = self.shards.frames, self.shards.size
        rows, columns = sheet.grid_shape(frames)
        is_raw = self.shards.codec == "raw"
        self._host_shape = (frames, size, size, 3) if is_raw else (rows * size, columns * size, 3)
        self.cache = choose_cache(cache, len(self.numbers) * frames * size * size * 3, self.device)
        on_device = self.cache == "device" or (self.cache == "ram" and self.device.type == "cpu")
        self._device_cache = self._new_cache((frames, size, size, 3), self.device) if on_device else None
        on_host = self.cache == "ram" and not on_device
        self._host_cache = self._new_cache(self._host_shape, torch.device("cpu")) if on_host else None
        self._place = np.full(len(self.shards.samples), -1, np.int64)  # number → place in the caches
        self._place[self.numbers] = np.arange(len(self.numbers))
        self._checked = np.zeros(len(self.shards.samples), bool)  # CRCs are checked once
        self._buffers: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None

    def __len__(self) -> int:
        return num_steps(len(self.numbers), self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        for batch in self.batches(epoch):
            yield batch.clips, batch.labels

    def step_clips(self, step: int) -> int:
        """Clips in a step's batch, over all ranks."""
        return min(self.batch_size, len(self.numbers) - step * self.batch_size)

    @property
    def hit_rate(self) -> float:
        """Share of clips that came from the cache."""
        caches = [cache for cache in (self._device_cache, self._host_cache) if cache]
        hits, misses = (sum(getattr(cache, name) for cache in caches) for name in ("hits", "misses"))
        return hits / max(1, hits + misses)

    def order(self, epoch: int) -> np.ndarray:
        """The numbers of an epoch's clips, int64 (N,), over all ranks."""
        if not self.shuffle:
            return self.numbers
        labels = self.shards.samples["label"][self.numbers] if self.balanced else None
        shards = self.shards.samples["shard"][self.numbers] if self.shuffle_shards else None
        return epoch_order(
            self.numbers, self.seed, epoch, labels=labels, shards=shards, shards_at_once=self.shuffle_shards
        )

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """This rank's batches of one epoch, from a step on; the order depends on (seed, epoch) alone."""
        order = self.order(epoch)
        readers = ThreadPoolExecutor(READERS, "read")
        decoders = ThreadPoolExecutor(self.workers, "decode")
        waiting: deque[_Pending] = deque()
        steps = iter(range(first_step, len(self)))
        try:
            while True:
                while len(waiting) < AHEAD and (step := next(steps, None)) is not None:
                    numbers, mask = rank_batch(order, step, self.batch_size, self.rank, self.world)
                    waiting.append(self._start(numbers, mask, readers, decoders))
                if not waiting:
                    break
                start = time.monotonic()
                batch = self._finish(waiting.popleft())
                self.wait_seconds += time.monotonic() - start
                yield batch
        finally:
            readers.shutdown(cancel_futures=True)
            decoders.shutdown(cancel_futures=True)
            self._buffers.clear()

    def _new_cache(self, shape: tuple[int, ...], device: torch.device) -> ClipCache:
        return ClipCache(len(self.numbers), shape, device)

    def _start(
        self, numbers: np.ndarray, mask: np.ndarray, readers: ThreadPoolExecutor, decoders: ThreadPoolExecutor
    ) -> _Pending:
        places = self._place[numbers]
        cache = self._device_cache or self._host_cache
        is_new = np.ones(len(numbers), bool) if cache is None else ~cache.has(places)
        decoded = np.flatnonzero(is_new) if cache is self._device_cache else np.arange(len(numbers))
        pending = _Pending(numbers, mask, decoded)
        if len(decoded) == 0:
            return pending
        pending.buffer = self._take_buffer(len(decoded))
        for out, i in zip(pending.buffer, decoded, strict=True):
            if is_new[i]:
                payload = readers.submit(self._read, int(numbers[i]))
                pending.futures.append(decoders.submit(self._decode, payload, int(numbers[i]), out))
            else:
                pending.futures.append(decoders.submit(self._host_cache.copy, int(places[i]), out))
        return pending

    def _finish(self, pending: _Pending) -> Batch:
        """Wait for the clips, move them to the device and cut the sheets."""
        for future in pending.futures:
            future.result()
        places = self._place[pending.numbers]
        if pending.buffer is not None:
            clips = self._to_device(pending.buffer)
            if self._device_cache:
                self._device_cache.put(places[pending.decoded], clips)
        if len(pending.decoded) < len(places):
            clips = self._device_cache.take(places)
        numbers, mask = pending.numbers, pending.mask
        if self.damaged and not self.shuffle:
            mask = mask & ~np.isin(numbers, list(self.damaged))
        elif self.damaged:
            numbers = np.array([self._replaced.get(int(number), number) for number in numbers])
        labels = torch.from_numpy(self.shards.samples["label"][numbers].astype(np.int64))
        labels = labels.to(self.device, non_blocking=True)
        return Batch(clips.permute(0, 1, 4, 2, 3), labels, numbers, mask)

    def _to_device(self, buffer: Tensor) -> Tensor:
        """Host buffer → uint8 (B, T, S, S, 3) on the device; copies run on their own stream."""
        if self._stream is None:
            clips = self._cut(buffer)
            self._buffers.append((buffer, None))
            return clips
        with torch.cuda.stream(self._stream):
            clips = self._cut(buffer.to(self.device, non_blocking=True))
            copied = torch.cuda.Event()
            copied.record()
        self._buffers.append((buffer, copied))
        torch.cuda.current_stream(self.device).wait_stream(self._stream)
        clips.record_stream(torch.cuda.current_stream(self.device))
        return clips

    def _cut(self, buffer: Tensor) -> Tensor:
        """Sheets (B, rows·S, columns·S, 3) → frames (B, T, S, S, 3), a copy of their own."""
        if self.shards.codec == "raw":
            return self._copy(buffer)
        size, (rows, columns) = self.shards.size, sheet.grid_shape(self.shards.frames)
        cells = buffer.view(len(buffer), rows, size, columns, size, 3).transpose(2, 3)
        return self._copy(cells).flatten(1, 2)[:, : self.shards.frames]

    def _copy(self, clips: Tensor) -> Tensor:
        """Contiguous. On a CPU by NumPy, in one thread: torch's would spin for the cores that the decoders use."""
        if clips.device.type == "cpu":
            return torch.from_numpy(clips.numpy().copy(order="C"))
        return clips.contiguous()

    def _take_buffer(self, count: int) -> Tensor:
        """A host buffer for `count` clips that nothing reads from any more."""
        if self._buffers and len(self._buffers[0][0]) == count:
            buffer, copied = self._buffers.popleft()
            if copied is not None:
                copied.synchronize()
            return buffer
        with torch.inference_mode(False):  # in evaluation too: other threads may not write into inference tensors
            return torch.empty((count, *self._host_shape), dtype=torch.uint8, pin_memory=self._stream is not None)

    def _read(self, number: int) -> bytes:
        payload = self.shards.read(number, check=not self._checked[number])
        self._checked[number] = True
        return payload

    def _decode(self, payload: Future, number: int, out: Tensor) -> None:
        """Fill `out` with the clip, or where it is damaged and skipping is allowed, with the next sound one."""
        try:
            decode_into(payload.result(), self.shards.codec, out)
        except DAMAGE as error:
            self._note_damage(number, error)
            if self.shuffle:
                self._replaced[number] = self._decode_next(number, out)
        if self._host_cache:
            self._host_cache.put(self._place[[number]], out[None])

    def _decode_next(self, number: int, out: Tensor) -> int:
        for other in np.roll(self.numbers, -1 - self._place[number])[:-1].tolist():
            try:
                decode_into(self.shards.read(other), self.shards.codec, out)
                return other
            except DAMAGE as error:
                self._note_damage(other, error)
        raise FormatError(f"all {len(self.numbers)} clips are damaged, the first: {self.damaged[number]}")

    def _note_damage(self, number: int, error: Exception) -> None:
        message = str(error)
        if not isinstance(error, FormatError):
            message = f"{self.shards.where(number)}: cannot be decoded ({error}); build or copy the folder again"
        if self.on_error != "skip":
            raise FormatError(message) from error
        self.damaged[number] = message
        if len(self.damaged) > self.max_errors * len(self.numbers):
            raise FormatError(f"{len(self.damaged)} of {len(self.numbers)} clips are damaged, the last: {message}")
