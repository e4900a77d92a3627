"""The news that a cache of remote shards gets of a loader: what it reads in this pass and in the next one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from trainer.data.batches import Pass
from trainer.shards.shard_set import ShardSet


def tell_begun(
    shards: ShardSet, loader: object, current: Pass, order: Callable[[int], np.ndarray], batch_size: int
) -> None:
    """A pass begins. order: of an epoch's clips, over all ranks: any of them may be the one that downloads."""
    if shards.cache is None:
        return
    own = current.order[current.first_step * batch_size :, 0]
    numbers = np.concatenate([own, order(current.epoch + 1)])
    ids = shards.samples["split"].astype(np.int64) << 32 | shards.samples["shard"]
    found, which = np.unique(ids[numbers], return_inverse=True)
    paths = [shards.paths[number >> 32, number & 0xFFFFFFFF] for number in found.tolist()]
    shards.cache.expect(loader, paths, which, len(own), lambda: (current.next_step - current.first_step) * batch_size)


def tell_closed(shards: ShardSet, loader: object) -> None:
    """Nothing more is read."""
    if shards.cache is not None:
        shards.cache.forget(loader)
