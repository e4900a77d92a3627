"""ClipLoader: batches of clips on the device, read and decoded ahead of time.

Reader threads hide slow storage, decoder threads (the JPEG decoder lets go of the interpreter's lock) write straight
into reused batch buffers. A pass that ends has begun the next one, so that nothing waits between epochs.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.profiler import record_function

from trainer.data.ahead import tell_begun, tell_closed
from trainer.data.arguments import (
    check_device,
    check_numbers,
    check_position,
    check_steps,
    choose_members,
    make_options,
    open_and_tell,
    shuffled_order,
)
from trainer.data.batches import Batch, ClipDataset, Pass, Pending, Values, presence
from trainer.data.cache import ClipCache, make_caches
from trainer.data.decoder import ClipDecoder
from trainer.data.order import count_repeats, num_steps, paired_order, rank_batch
from trainer.data.thread_pools import READERS, Stages
from trainer.data.transfer import Transfer, contiguous_copy
from trainer.errors import FormatError, TrainerError
from trainer.shards.mix import check_weights
from trainer.shards.pairs import find_pairs
from trainer.shards.payloads import Payloads
from trainer.shards.shard_set import ShardSet

AHEAD = 4  # batches that are being read and decoded while one is in use


class ClipLoader:
    """Batches of one split of shards folders, for any training loop: `for clips, labels in ClipLoader(…)`.

    Each pass over it is one epoch, in a new order where it shuffles. clips: uint8 (B, T, 3, S, S), contiguous, or with
    several `members` named each by its name; labels: int64 (B,), of the primary head. The last batch may be smaller.
    options: those of `LoaderOptions`. Raises FormatError when the folder or a clip is damaged; with on_error "skip", a
    damaged clip is replaced by the next one (in evaluation: masked) and counted in `damaged`. Raises SettingsError for
    options that cannot be. Pickled or copied, it keeps its options and its epoch, but not `allot`; threads, begun
    batches and cached clips stay behind.
    """

    def __init__(
        self,
        shards: ShardSet | Path | str | list[Path | str],
        split: str = "train",
        batch_size: int = 16,
        *,
        members: Collection[str] | None = None,
        device: torch.device | str = "cpu",
        **options: Any,
    ) -> None:
        self.options = make_options({"batch_size": batch_size, "members": members, "device": device, **options})
        self.device = check_device(device)
        self.shards = shards if isinstance(shards, ShardSet) else open_and_tell(shards)
        self._members, self.split = choose_members(members, self.shards), split
        known, numbers = self.shards.numbers(split), self.options.numbers  # which refuses what is no split
        self.numbers = known if numbers is None else check_numbers(numbers, len(self.shards.samples))
        self.dataset = ClipDataset(self.numbers)
        if len(self.numbers) == 0:
            raise FormatError(f"{self.shards.name}: has no {split} split")
        self.batch_size = batch_size
        self.shuffle = split == "train" if self.options.shuffle is None else self.options.shuffle
        check_steps(self.options.steps, self.shuffle)
        if self.shuffle:
            check_weights(self.options.weights, self.shards, self.numbers)
        self.pairs = find_pairs(self.shards, self.numbers) if self.shuffle and self.options.pairs else None
        self.workers = self.options.workers or len(os.sched_getaffinity(0))
        self.epoch, self._first_step = self._position = 0, 0  # of the next plain pass; after the last batch handed out
        self.wait_seconds, self.hits, self.misses = 0.0, 0, 0  # of the consumer for data; clips from the cache or not
        self._decoder = ClipDecoder(self.shards, self._members, self.numbers, self.options, replace=self.shuffle)
        share = math.ceil(self.step_clips(0) / self.options.world)
        self._ahead = max(AHEAD, math.ceil(READERS / share))
        self._transfer = Transfer(self._members, share, self.device)
        self._place = np.full(len(self.shards.samples), -1, np.int64)  # number → place in the caches
        self._place[self.numbers] = np.arange(len(self.numbers))
        caches = make_caches(self.options.cache, len(self.numbers), self._members, self.device, self.options.allot)
        self.cache, self._device_cache, self._host_cache = caches
        self._stages: Stages | None = None
        self._passes = 0  # under way
        self._begun: Pass | None = None  # what the next pass will be, if it is as expected

    def __len__(self) -> int:
        return self.options.steps or num_steps(len(self.numbers), self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor | Values, Tensor]]:
        epoch, first_step = self.epoch, self._first_step
        self.epoch, self._first_step, self._position = epoch + 1, 0, (epoch, first_step)
        for step, batch in enumerate(self.batches(epoch, first_step), first_step):
            self._position = epoch, step + 1
            labels = torch.from_numpy(self.shards.labels[batch.numbers].astype(np.int64))
            clips = {name: contiguous_copy(values) for name, values in batch.members.items()}
            yield clips if len(clips) > 1 else clips.popitem()[1], labels.to(self.device, non_blocking=True)

    def set_epoch(self, epoch: int) -> None:
        """The next pass is this epoch's, from its start; or from where `load_state_dict` has put it in that epoch."""
        if epoch != self.epoch:
            self.epoch, self._first_step = epoch, 0
        self._position = self.epoch, self._first_step

    @property
    def sampler(self) -> ClipLoader:
        """Itself: there Lightning looks for `set_epoch`."""
        return self

    def state_dict(self) -> dict[str, int | str]:
        """Where `for clips, labels in loader` stands: epoch and step of the next batch, and what fixes the order."""
        epoch, step = self._position
        ended = step == len(self)
        return {"epoch": epoch + ended, "step": 0 if ended else step} | self._order_of()

    def load_state_dict(self, state: dict[str, int | str]) -> None:
        """The next pass continues there. Raises SettingsError where there is no such place or the order was another."""
        check_position(state, self._order_of(), len(self))
        self.epoch, self._first_step = self._position = state["epoch"], state["step"]

    def __reduce__(self) -> tuple:
        arguments = {"shards": self.shards, "split": self.split, **vars(self.options)}
        del arguments["allot"]  # belongs to this process
        return _remake, (type(self), arguments, self.epoch, self._first_step)

    def _order_of(self) -> dict[str, int | str]:
        names = ("seed", "batch_size", "balanced", "pairs", "shuffle_shards", "steps", "weights")
        clips = {"num_clips": len(self.numbers), "fingerprint": self.shards.fingerprint}
        return {name: getattr(self.options, name) for name in names} | clips

    def step_clips(self, step: int) -> int:
        """Clips in a step's batch, over all ranks."""
        left = math.inf if self.options.steps else len(self.numbers) - step * self.batch_size
        return min(self.batch_size, left)

    @property
    def hit_rate(self) -> float:
        """Share of clips that came from the cache."""
        return self.hits / max(1, self.hits + self.misses)

    @property
    def damaged(self) -> dict[int, str]:
        """What is wrong with the clips that were skipped, by number."""
        return self._decoder.damaged

    def check_damaged(self, gather: Callable[[np.ndarray], np.ndarray]) -> None:
        """All ranks together, each of which knows what it has met. Raises FormatError on all where it is too much."""
        messages = sorted(set(gather(np.array(list(self._decoder.failing.values()), object)).tolist()))
        if messages:
            self._decoder.check_share(len(messages), messages[-1])

    def order(self, epoch: int) -> np.ndarray:
        """The numbers of an epoch's clips, int64 (N,), over all ranks."""
        if not self.shuffle:
            return self.numbers
        if self.pairs is not None:
            return paired_order(self.pairs.numbers, len(self.numbers), self.options.seed, epoch)
        return shuffled_order(self.options, self.shards, self.numbers, epoch)

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """This rank's batches of one epoch, from a step on; their order depends on (seed, epoch) and the options alone.

        At its end the next epoch has begun. Whatever interrupts it before its last batch ends all threads.
        """
        self.begin(epoch, first_step)
        current, self._begun, is_whole = self._begun, None, False
        self._passes += 1
        try:
            while current.waiting:
                if current.process != os.getpid():
                    raise TrainerError("this pass began before a fork, which has none of its threads; begin a new one")
                start = time.monotonic()
                with record_function("data wait"):
                    batch = self._finish(current.waiting.popleft())
                self.wait_seconds += time.monotonic() - start
                self._start_steps(current, self._ahead)
                if current.next_step == len(self) and self._may_run_on:
                    self.begin(epoch + 1, ahead=self._ahead - len(current.waiting))
                is_whole = not current.waiting  # who takes just so many batches does not ask for the end
                yield batch
            is_whole = True
        finally:
            if current.process == os.getpid():
                self._passes -= 1
                if not is_whole:
                    current.cancel()
                    if self._passes == 0:
                        self.close()

    def begin(self, epoch: int, first_step: int = 0, ahead: int | None = None) -> None:
        """Start reading the first batches of a pass, so that `batches` with the same arguments need not wait."""
        if self._stages is not None and self._stages.process != os.getpid():  # a fork of the process that had them
            self._stages, self._begun, self._passes = None, None, 0
        epoch = epoch if self.shuffle else 0
        if self._begun is None or (self._begun.epoch, self._begun.first_step) != (epoch, first_step):
            self._drop_begun()
            order = self.order(epoch)
            self._begun = Pass(epoch, first_step, np.stack([order, count_repeats(order)], 1), first_step)
            tell_begun(self.shards, self, self._begun, self.order, self.batch_size)
        self._start_steps(self._begun, self._ahead if ahead is None else ahead)

    def close(self) -> None:
        """Drop what is begun and end the threads; another pass starts new ones."""
        self._drop_begun()
        tell_closed(self.shards, self)
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
        is_partial = self._device_cache is not None and self.device.type != "cpu" and self.options.world > 1
        return self._cache is None or self._cache.is_full or is_partial

    def _drop_begun(self) -> None:
        if self._begun is not None:
            self._begun.cancel()
            self._begun = None

    def _start_steps(self, current: Pass, ahead: int) -> None:
        while len(current.waiting) < ahead and current.next_step < len(self):
            ranks = self.options.rank, self.options.world
            seeds, mask = rank_batch(current.order, current.next_step, self.batch_size, *ranks)
            current.waiting.append(self._start(seeds, mask))
            current.next_step += 1

    def _start(self, seeds: np.ndarray, mask: np.ndarray) -> Pending:
        if self._stages is None:
            self._stages = Stages(self.workers)
        places = self._place[numbers := seeds[:, 0]]
        is_new = np.ones(len(numbers), bool) if self._cache is None else ~self._cache.has(places)
        decoded = np.arange(len(numbers)) if self._device_cache is None else np.flatnonzero(is_new)
        pending = Pending(seeds, mask, decoded, hits=int((~is_new).sum()))
        if len(decoded) == 0:
            return pending
        pending.buffer = self._transfer.take_buffer()
        rows = zip(*pending.buffer.values(), strict=True)
        for row, i in zip(rows, decoded.tolist(), strict=False):
            out = dict(zip(pending.buffer, row, strict=True))
            if is_new[i]:
                future = self._stages.start(self._decoder.read, self._decode, int(numbers[i]), out)
            else:
                future = self._stages.copy(self._copy, int(numbers[i]), out)
            pending.futures.append(future)
        return pending

    def _finish(self, pending: Pending) -> Batch:
        """Wait for the clips, move them to the device and unpack them."""
        found = [future.result() for future in pending.futures]  # the number of the clip that came, or None
        self.hits, self.misses = self.hits + pending.hits, self.misses + len(pending.mask) - pending.hits
        numbers, mask, decoded = pending.seeds[:, 0].copy(), pending.mask.copy(), pending.decoded
        is_own = np.array([came == number for came, number in zip(found, numbers[decoded].tolist(), strict=True)], bool)
        clips = self._transfer.to_device(pending.buffer, len(decoded)) if len(decoded) else None
        if self._device_cache:
            clips = self._device_cache.complete(self._place[numbers], decoded, clips, is_own)
        for i in np.flatnonzero(~is_own).tolist():
            if found[i] is None:
                mask[decoded[i]] = False
            else:
                numbers[decoded[i]] = found[i]
        arranged = {name: member.arrange(clips[name]) for name, member in self._members.items()}
        arranged |= presence(self.shards.samples, self._members, numbers, self.device)
        return Batch(arranged, numbers, mask, pending.seeds)

    def _decode(self, number: int, payloads: Payloads | Exception, out: Values) -> int | None:
        found = self._decoder.decode(number, payloads, out)
        if self._host_cache and found == number:
            self._host_cache.put(self._place[[number]], {name: values[None] for name, values in out.items()})
        return found

    def _copy(self, number: int, out: Values) -> int:
        self._host_cache.copy(int(self._place[number]), out)
        return number


def _remake(kind: type[ClipLoader], arguments: dict[str, Any], epoch: int, first_step: int) -> ClipLoader:
    loader = kind(**arguments)
    loader.epoch, loader._first_step = loader._position = epoch, first_step
    return loader
