"""The values that a loader works with: a finished batch, one that is being made, a pass over the clips."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from shardify.format.members import Member

Values = dict[str, Tensor]  # by member, (B, …) each


def empty_values(members: dict[str, Member], count: int, *, stored: bool = False, **options) -> Values:
    """Room for the members of `count` clips; stored: for their payloads as they are decoded, before they are unpacked.

    options: of torch.empty.
    """
    return {
        name: torch.empty(
            (count, *(member.stored_shape if stored else member.shape)),
            dtype=getattr(torch, member.dtype.name),
            **options,
        )
        for name, member in members.items()
    }


def presence(samples: np.ndarray, members: Iterable[str], numbers: np.ndarray, device: torch.device) -> Values:
    """NAME_present, bool (B,) on the device, of each of the members that clips may lack; samples: of samples.npy."""
    fields = [f"{name}_present" for name in members if f"{name}_present" in samples.dtype.names]
    return {
        field: torch.from_numpy(samples[field][numbers].astype(bool)).to(device, non_blocking=True) for field in fields
    }


@dataclass(frozen=True)
class Batch:
    """Clips on the device. What is learned of them is looked up by their numbers."""

    # as models take them: frames uint8 (B, T, 3, S, S), channels last in memory; of a member that clips may lack also
    members: Values  # NAME_present, bool (B,)
    numbers: np.ndarray  # int64 (B,), the clips' numbers in samples.npy
    mask: np.ndarray  # bool (B,), False where a clip only pads
    # int64 (B, 2), what augmentation is drawn from: the number in the order (not of a clip that stands in for it),
    # and how often it came before in the epoch
    seeds: np.ndarray

    @property
    def clips(self) -> Tensor:
        """The first member."""
        return next(iter(self.members.values()))

    @property
    def others(self) -> Values:
        """The members after the first one."""
        return dict(list(self.members.items())[1:])

    def part(self, chosen: slice) -> Batch:
        """Some of its clips."""
        members = {name: values[chosen] for name, values in self.members.items()}
        return Batch(members, self.numbers[chosen], self.mask[chosen], self.seeds[chosen])


@dataclass(frozen=True)
class KeptBatches:
    """The batches of a whole pass, kept on the device; evaluation takes them in a loader's place."""

    numbers: np.ndarray  # int64 (N,), of all clips, over all ranks
    batch_size: int
    kept: list[Batch]  # of this rank

    def batches(self, epoch: int) -> Iterable[Batch]:
        return self.kept


@dataclass
class Pending:
    """A batch that is being read and decoded."""

    seeds: np.ndarray
    mask: np.ndarray
    decoded: np.ndarray  # places in the batch of the clips in `buffer`; the others come from the device's cache
    hits: int  # clips that a cache holds
    buffer: Values | None = None  # host memory
    futures: list[Future] = field(default_factory=list)


@dataclass
class Pass:
    """One way through the clips, and how far its batches are begun."""

    epoch: int
    first_step: int
    order: np.ndarray  # int64 (N, 2), as in Batch.seeds
    next_step: int
    waiting: deque[Pending] = field(default_factory=deque)
    process: int = field(default_factory=os.getpid)  # whose threads make its batches

    def cancel(self) -> None:
        for pending in self.waiting:
            for future in pending.futures:
                future.cancel()


@dataclass(frozen=True)
class ClipDataset:
    """The clips of a loader as other tools count them: `len(loader.dataset)`."""

    numbers: np.ndarray  # int64 (N,)

    def __len__(self) -> int:
        return len(self.numbers)
