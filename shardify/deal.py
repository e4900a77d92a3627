"""Sources with their splits → tasks dealt to shards, shuffled by seed so that every shard is a fair mix."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass
from pathlib import Path

from shardify.index import SPLITS, shard_name

Box = tuple[float, float, float, float]  # x, y, width, height in pixels of the displayed picture


@dataclass(frozen=True)
class Task:
    """One video to be turned into clips, with all that is known before it is opened."""

    path: Path
    source: str
    key: str
    split: str
    label: int
    class_name: str
    target: float
    group: str
    box: Box | None = None


@dataclass(frozen=True)
class ShardPlan:
    split: str
    number: int
    tasks: tuple[Task, ...]

    @property
    def name(self) -> str:
        return shard_name(self.split, self.number)


def deal_shards(tasks: list[Task], shard_size: int, clips: int, seed: int, first: dict[str, int]) -> list[ShardPlan]:
    """Shards of at most `shard_size` clips, equal in size to within one video; numbers start at `first[split]`.

    The clips of one video stay together, since it is decoded once.
    """
    per_shard = max(1, shard_size // clips)
    plans = []
    for split in SPLITS:
        chosen = sorted((task for task in tasks if task.split == split), key=lambda task: task.key)
        random.Random(f"{seed}:{split}:{first[split]}").shuffle(chosen)
        count = math.ceil(len(chosen) / per_shard)
        borders = [len(chosen) * i // count for i in range(count + 1)] if count else []
        for i, (start, stop) in enumerate(itertools.pairwise(borders)):
            plans.append(ShardPlan(split, first[split] + i, tuple(chosen[start:stop])))
    return plans
