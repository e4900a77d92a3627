"""Threads that read ahead: enough, not too far, over the ends of passes, and gone when they should be."""

import os
import threading
from pathlib import Path

import pytest
from loading import damage, like, watched

from trainer import ClipLoader
from trainer.data.cache import ClipCache
from trainer.data.loader import AHEAD
from trainer.data.thread_pools import READERS
from trainer.errors import FormatError
from trainer.shards.shard_set import ShardSet, open_shards


@pytest.fixture
def own_threads():
    """The loader's threads that the test has started and that live."""
    before = set(threading.enumerate())
    return lambda: {thread for thread in threading.enumerate() if thread not in before}


def test_no_thread_is_left_after_break_or_exception(own_shards, own_threads):
    clip_loader = ClipLoader(own_shards, batch_size=2)
    for _ in clip_loader:
        assert own_threads()
        break
    assert not own_threads()
    with pytest.raises(ZeroDivisionError):
        for _ in clip_loader:
            raise ZeroDivisionError
    assert not own_threads()
    damage(own_shards, int(clip_loader.order(0)[-1]))
    with pytest.raises(FormatError):
        list(ClipLoader(own_shards, batch_size=2).batches(0))
    assert not own_threads()


def test_threads_stay_from_pass_to_pass_and_go_with_their_loader(shards_folder, own_threads):
    clip_loader = ClipLoader(shards_folder, batch_size=2)
    seen = []
    for _ in range(3):
        list(clip_loader)
        seen.append(own_threads())
    assert seen[0] <= seen[1] <= seen[2]
    clip_loader.close()
    assert not own_threads()
    list(clip_loader)
    left = own_threads()
    del clip_loader
    for thread in left:
        thread.join(10)
    assert not own_threads()


def test_a_look_at_a_batch_does_not_disturb_the_pass_under_way(shards_folder, own_threads):
    clip_loader = ClipLoader(shards_folder, batch_size=4)
    seen = []
    for batch in clip_loader.batches(0):
        seen += batch.numbers.tolist()
        working = own_threads()
        next(clip_loader.batches(7))
        assert working <= own_threads()
    assert seen == clip_loader.order(0).tolist()


@pytest.mark.parametrize("split", ["train", "val"])
def test_when_a_pass_ends_the_next_is_being_read(shards_folder, split):
    shards = watched(shards_folder)
    clip_loader = ClipLoader(shards, split, batch_size=4)
    count = len(list(clip_loader.batches(0))) * 4
    asked = [shards.asked.get(timeout=10) for _ in range(count + 4)]  # nobody has asked for the next pass yet
    assert sorted(asked[:count]) == sorted(clip_loader.order(0))
    clip_loader.close()
    asked += [shards.asked.get() for _ in range(shards.asked.qsize())]
    assert set(asked[count:]) <= set(clip_loader.order(1)[: 4 * clip_loader._ahead])


def test_what_has_begun_gives_way_to_what_is_asked_for(shards_folder):
    clip_loader = ClipLoader(shards_folder, batch_size=4)
    for epoch, first_step in ((0, 0), (5, 0), (2, 3), (3, 1), (3, 0)):
        numbers = [number for batch in clip_loader.batches(epoch, first_step) for number in batch.numbers.tolist()]
        assert numbers == clip_loader.order(epoch)[4 * first_step :].tolist()


@pytest.mark.parametrize("cache", ["ram", "host"])
def test_with_a_cache_no_clip_is_decoded_twice(shards_folder, cache):
    shards = watched(shards_folder)
    clip_loader = ClipLoader(shards, batch_size=4, cache="ram" if cache == "ram" else "none")
    if cache == "host":
        clip_loader._host_cache = ClipCache(20, shards.members, clip_loader.device, stored=True)
    for epoch in range(3):
        list(clip_loader.batches(epoch))
    assert sorted(shards.asked.get() for _ in range(shards.asked.qsize())) == sorted(clip_loader.numbers)
    assert clip_loader.hit_rate == pytest.approx(2 / 3)


def test_reading_ahead_is_bounded(shards_folder):
    shards = watched(shards_folder)
    clip_loader = ClipLoader(shards, batch_size=1)
    batches = clip_loader.batches(0)
    next(batches)
    clip_loader.close()
    assert shards.asked.qsize() <= 1 + max(AHEAD, READERS)


def test_a_slow_read_holds_up_neither_other_reads_nor_decoders(shards_folder):
    """Each read waits until seven others are under way: fewer readers, or one that decodes too, would never end."""
    plain = open_shards(shards_folder)
    gate = threading.Barrier(8, timeout=20)

    class SlowShards(ShardSet):
        def read(self, number, names=(), checked=None):
            gate.wait()
            return super().read(number, names, checked)

    shards = like(SlowShards, plain)
    clip_loader = ClipLoader(shards, batch_size=8, workers=1, numbers=plain.numbers("train")[:16])
    batches = clip_loader.batches(0)
    assert [len(next(batches).numbers) for _ in range(2)] == [8, 8]


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("cache", ["none", "ram"])
def test_two_hundred_epochs_take_no_more_memory_or_files(shards_folder, own_threads, cache):
    clip_loader = ClipLoader(shards_folder, batch_size=8, cache=cache)
    seen = []
    for epochs in (20, 180):
        for _ in range(epochs):
            for _ in clip_loader:
                assert len(own_threads()) <= READERS + clip_loader.workers
        clip_loader.close()  # what it reads ahead would come and go
        assert not own_threads()
        seen.append((resident_bytes(), len(os.listdir("/proc/self/fd"))))
    (memory, files), (later_memory, later_files) = seen
    assert later_memory - memory < 4 << 20
    assert later_files <= files  # fewer where files that an earlier test had left open were closed meanwhile
