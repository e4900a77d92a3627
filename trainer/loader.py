"""Sample numbers → uint8 batches (B, T, 3, S, S) on the device, ahead of time.

Reader threads hide slow storage, decoder threads (the JPEG decoder lets go of the interpreter's lock) write straight
into reused batch buffers. A pass that ends has begun the next one, so that nothing waits between epochs.
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.profiler import record_function

from trainer.cache import ClipCache, choose_cache, device_index, private_memory
from trainer.decoding import ClipDecoder
from trainer.errors import FormatError
from trainer.order import count_repeats, epoch_order, num_steps, rank_batch
from trainer.shards import ShardSet, open_shards
from trainer.stages import READERS, Stages
from trainer.transfer import Transfer

AHEAD = 4  # batches that are being read and decoded while one is in use


@dataclass(frozen=True)
class Batch:
    clips: Tensor  # uint8 (B, T, 3, S, S), channels last in memory, on the device
    labels: Tensor  # int64 (B,), on the device
    numbers: np.ndarray  # int64 (B,), the clips' numbers in samples.npy
    mask: np.ndarray  # bool (B,), False where a clip only pads
    # int64 (B, 2), what augmentation is drawn from: the number in the order (not of a clip that stands in for it),
    # and how often it came before in the epoch
    seeds: np.ndarray


@dataclass
class _Pending:
    """A batch that is being read and decoded."""

    seeds: np.ndarray
    mask: np.ndarray
    decoded: np.ndarray  # places in the batch of the clips in `buffer`; the others come from the device's cache
    hits: int  # clips that a cache holds
    buffer: Tensor | None = None  # host memory
    futures: list[Future] = field(default_factory=list)


@dataclass
class _Pass:
    """One way through the clips, and how far its batches are begun."""

    epoch: int
    first_step: int
    order: np.ndarray  # int64 (N, 2), as in Batch.seeds
    next_step: int
    waiting: deque[_Pending] = field(default_factory=deque)

    def cancel(self) -> None:
        for pending in self.waiting:
            for future in pending.futures:
                future.cancel()


class ClipLoader:
    """Batches of one split of a shards folder, for any training loop: `for clips, labels in ClipLoader(…)`.

    Each pass over it is one epoch, in a new order where it shuffles. clips: uint8 (B, T, 3, S, S); labels: int64
    (B,). The last batch may be smaller. Raises FormatError when the folder or a clip is damaged; with on_error
    "skip", a damaged clip is replaced by the next one (in evaluation: masked) and counted in `damaged`.
    allot: makes the memory of a cache in RAM; `Group.shared_memory` shares it between the ranks of a machine.
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
        allot: Callable[[int], Tensor] = private_memory,
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
        self.epoch = 0
        self.wait_seconds = 0.0  # time that the consumer has waited for data
        self.hits = self.misses = 0  # clips that came from the cache, and those that did not
        self._decoder = ClipDecoder(self.shards, self.numbers, on_error, max_errors, replace=self.shuffle)
        share = math.ceil(min(batch_size, len(self.numbers)) / world)
        self._ahead = max(AHEAD, math.ceil(READERS / share))
        self._transfer = Transfer(self.shards.codec, self.shards.frames, self.shards.size, share, self.device)
        self._place = np.full(len(self.shards.samples), -1, np.int64)  # number → place in the caches
        self._place[self.numbers] = np.arange(len(self.numbers))
        self._device_cache, self._host_cache = self._make_caches(cache, allot)
        self._stages: Stages | None = None
        self._passes = 0  # under way
        self._begun: _Pass | None = None  # what the next pass will be, if it is as expected

    def _make_caches(self, setting: str, allot: Callable) -> tuple[ClipCache | None, ClipCache | None]:
        """Of clips cut into frames, on the device, and of sheets in the host's memory: one of them or none."""
        count, shape = len(self.numbers), (self.shards.frames, self.shards.size, self.shards.size, 3)
        self.cache = choose_cache(setting, count * math.prod(shape), self.device)
        if self.cache == "device" or (self.cache == "ram" and self.device.type == "cpu"):
            return ClipCache(count, shape, self.device, allot), None
        if self.cache == "ram":
            return None, ClipCache(count, self._transfer.host_shape, torch.device("cpu"), allot)
        return None, None

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
        return self.hits / max(1, self.hits + self.misses)

    @property
    def damaged(self) -> dict[int, str]:
        """Number → what is wrong with it, of the clips that were skipped."""
        return self._decoder.damaged

    def check_damaged(self, gather: Callable[[np.ndarray], np.ndarray]) -> None:
        """All ranks together, each of which knows what it has met. Raises FormatError on all where it is too much."""
        messages = sorted(set(gather(np.array(list(self.damaged.values()), object)).tolist()))
        if messages:
            self._decoder.check_share(len(messages), messages[-1])

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
        """This rank's batches of one epoch, from a step on; the order depends on (seed, epoch) alone.

        At its end the next epoch has begun. Whatever interrupts it ends all threads.
        """
        self.begin(epoch, first_step)
        current, self._begun, is_whole = self._begun, None, False
        self._passes += 1
        try:
            while current.waiting:
                start = time.monotonic()
                with record_function("data wait"):
                    batch = self._finish(current.waiting.popleft())
                self.wait_seconds += time.monotonic() - start
                self._start_steps(current, self._ahead)
                if current.next_step == len(self) and self._may_run_on:
                    self.begin(epoch + 1, ahead=self._ahead - len(current.waiting))
                yield batch
            is_whole = True
        finally:
            self._passes -= 1
            if not is_whole:
                current.cancel()
                if self._passes == 0:
                    self.close()

    def begin(self, epoch: int, first_step: int = 0, ahead: int | None = None) -> None:
        """Start reading the first batches of a pass, so that `batches` with the same arguments need not wait."""
        epoch = epoch if self.shuffle else 0
        if self._begun is None or (self._begun.epoch, self._begun.first_step) != (epoch, first_step):
            self._drop_begun()
            order = self.order(epoch)
            repeats = count_repeats(order) if self.balanced else np.zeros(len(order), np.int64)
            self._begun = _Pass(epoch, first_step, np.stack([order, repeats], 1), first_step)
        self._start_steps(self._begun, self._ahead if ahead is None else ahead)

    def close(self) -> None:
        """Drop what is begun and end the threads; another pass starts new ones."""
        self._drop_begun()
        if self._stages is not None:
            self._stages.close()
            self._stages = None
        self._transfer.drop_buffers()

    @property
    def _cache(self) -> ClipCache | None:
        return self._device_cache or self._host_cache

    @property
    def _may_run_on(self) -> bool:
        """Whether the next pass may begin while this one is still being decoded.

        Not while a cache is being filled: what is on its way there would be decoded twice. It serves the next pass
        at once, but for one on a GPU among several: those see new clips in every epoch.
        """
        is_partial = self._device_cache is not None and self.device.type != "cpu" and self.world > 1
        return self._cache is None or self._cache.is_full or is_partial

    def _drop_begun(self) -> None:
        if self._begun is not None:
            self._begun.cancel()
            self._begun = None

    def _start_steps(self, current: _Pass, ahead: int) -> None:
        while len(current.waiting) < ahead and current.next_step < len(self):
            seeds, mask = rank_batch(current.order, current.next_step, self.batch_size, self.rank, self.world)
            current.waiting.append(self._start(seeds, mask))
            current.next_step += 1

    def _start(self, seeds: np.ndarray, mask: np.ndarray) -> _Pending:
        if self._stages is None:
            self._stages = Stages(self.workers)
        numbers = seeds[:, 0]
        places = self._place[numbers]
        is_new = np.ones(len(numbers), bool) if self._cache is None else ~self._cache.has(places)
        decoded = np.arange(len(numbers)) if self._device_cache is None else np.flatnonzero(is_new)
        pending = _Pending(seeds, mask, decoded, hits=int((~is_new).sum()))
        if len(decoded) == 0:
            return pending
        pending.buffer = self._transfer.take_buffer()
        for out, i in zip(pending.buffer, decoded.tolist(), strict=False):
            if is_new[i]:
                future = self._stages.start(self._decoder.read, self._decode, int(numbers[i]), out)
            else:
                future = self._stages.copy(self._copy, int(numbers[i]), out)
            pending.futures.append(future)
        return pending

    def _finish(self, pending: _Pending) -> Batch:
        """Wait for the clips, move them to the device and cut the sheets."""
        found = [future.result() for future in pending.futures]  # the number of the clip that came, or None
        self.hits, self.misses = self.hits + pending.hits, self.misses + len(pending.mask) - pending.hits
        numbers, mask, decoded = pending.seeds[:, 0].copy(), pending.mask.copy(), pending.decoded
        is_own = np.array([came == number for came, number in zip(found, numbers[decoded].tolist(), strict=True)], bool)
        clips = self._transfer.to_clips(pending.buffer, len(decoded)) if len(decoded) else None
        if self._device_cache:
            clips = self._with_cached(numbers, decoded, clips, is_own)
        for i in np.flatnonzero(~is_own).tolist():
            if found[i] is None:
                mask[decoded[i]] = False
            else:
                numbers[decoded[i]] = found[i]
        labels = torch.from_numpy(self.shards.samples["label"][numbers].astype(np.int64))
        labels = labels.to(self.device, non_blocking=True)
        return Batch(clips.permute(0, 1, 4, 2, 3), labels, numbers, mask, pending.seeds)

    def _with_cached(
        self, numbers: np.ndarray, decoded: np.ndarray, clips: Tensor | None, is_own: np.ndarray
    ) -> Tensor:
        """The whole batch, uint8 (B, T, S, S, 3): `clips` at `decoded`, the rest from the cache.

        The cache keeps those of `clips` that are the clips asked for: is_own, bool (len(decoded),).
        """
        places = self._place[numbers]
        if clips is not None:
            sound = np.flatnonzero(is_own)
            kept = clips if is_own.all() else clips[device_index(sound, clips.device)]
            self._device_cache.put(places[decoded[sound]], kept)
            if len(decoded) == len(numbers):
                return clips
        whole = self._device_cache.take(places)
        if clips is not None:
            whole.index_copy_(0, device_index(decoded, whole.device), clips)
        return whole

    def _decode(self, number: int, payload: bytes | Exception, out: Tensor) -> int | None:
        found = self._decoder.decode(number, payload, out)
        if self._host_cache and found == number:
            self._host_cache.put(self._place[[number]], out[None])
        return found

    def _copy(self, number: int, out: Tensor) -> int:
        self._host_cache.copy(int(self._place[number]), out)
        return number
