from pathlib import Path

import pytest

from shardify.build.job import Job
from shardify.build.plan import deal_shards

FIRST = {"train": 0, "val": 0, "test": 0}


def jobs(count, split="train"):
    return [
        Job(Path(f"{i}"), f"{i}", f"key-{i:05d}", split, {"class": int(i < count // 2)}, {"class": "c"}, 0.0, f"{i}")
        for i in range(count)
    ]


@pytest.mark.parametrize(
    ("count", "size", "clips"), [(1, 4, 1), (4, 4, 1), (5, 4, 1), (103, 10, 1), (103, 10, 4), (7, 2, 3)]
)
def test_every_task_once_in_shards_of_even_size(count, size, clips):
    shards = deal_shards(jobs(count), size, clips, 0, FIRST)
    assert sorted(job.key for shard in shards for job in shard.jobs) == [job.key for job in jobs(count)]
    lengths = [len(shard.jobs) for shard in shards]
    assert max(lengths) - min(lengths) <= 1
    assert max(lengths) * clips <= max(size, clips)
    assert [shard.name for shard in shards] == [f"train-{i:06d}.tar" for i in range(len(shards))]


def test_order_depends_on_seed_and_not_on_the_listing():
    listed = deal_shards(jobs(40), 10, 1, 0, FIRST)
    assert deal_shards(jobs(40)[::-1], 10, 1, 0, FIRST) == listed
    assert deal_shards(jobs(40), 10, 1, 1, FIRST) != listed


def test_shards_are_a_fair_mix():
    for shard in deal_shards(jobs(1000), 100, 1, 0, FIRST):
        assert 30 < sum(job.label for job in shard.jobs) < 70


def test_splits_have_their_own_numbers():
    mixed = jobs(6) + jobs(3, "val")
    names = [shard.name for shard in deal_shards(mixed, 3, 1, 0, {"train": 4, "val": 1, "test": 0})]
    assert names == ["train-000004.tar", "train-000005.tar", "val-000001.tar"]
