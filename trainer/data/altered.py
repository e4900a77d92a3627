"""A loader whose batches are altered on their way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from trainer.data.batches import Batch
from trainer.data.loader import ClipLoader
from trainer.shards.shard_set import ShardSet


@dataclass(frozen=True)
class AlteredLoader:
    """A loader each of whose batches goes through a function."""

    loader: ClipLoader
    alter: Callable[[Batch], Batch]

    @property
    def shards(self) -> ShardSet:
        return self.loader.shards

    @property
    def numbers(self) -> np.ndarray:
        return self.loader.numbers

    @property
    def batch_size(self) -> int:
        return self.loader.batch_size

    def batches(self, epoch: int) -> Iterator[Batch]:
        return map(self.alter, self.loader.batches(epoch))
