"""Which shard a cache downloads next, and what it removes for it."""

import numpy as np
import pytest

from trainer.shards.cache_plan import FAR, Held, Uses, choose, next_uses


def uses(shards, position=0, length=None):
    shards = np.array(shards, np.int64)
    return Uses(shards, len(shards) if length is None else length, lambda: position)


def held(*here, sizes=(10, 10, 10, 10), given_up=()):
    numbers = np.arange(len(sizes))
    return Held(np.array(sizes), np.full(len(sizes), 4), np.isin(numbers, here), np.isin(numbers, given_up))


def test_the_next_use_is_counted_over_passes_one_after_the_other():
    passes = [uses([0, 0, 1, 0, 1], position=1, length=4), uses([2, -1, 2])]
    assert next_uses(passes, 4).tolist() == [0, 1, 3, FAR]


def test_the_next_pass_of_what_is_read_out_comes_after_what_others_still_read():
    passes = [uses([0, 0, 0, 0], position=2, length=2), uses([1, 2, 2, 1, 3], position=1, length=4)]
    assert next_uses(passes, 4).tolist() == [3, 2, 0, 3]
    assert choose(passes, held(0, 1), 0) == (2, [0])


@pytest.mark.parametrize(
    ("here", "room", "given_up", "expected"),
    [
        ((), 40, (), (2, [])),  # what is read first comes first
        ((2,), 40, (), (0, [])),
        ((2,), 40, (0,), (1, [])),  # what could not be had is left out
        ((0, 1, 2), 40, (), None),  # all that is read is there
        ((3,), 0, (), (2, [3])),  # what is never read goes
        ((0, 3), 5, (), (2, [3])),
        ((0,), 0, (), (2, [0])),  # what is read last goes
        ((2,), 0, (), None),  # not for a shard that is read later
    ],
)
def test_what_is_downloaded_and_what_goes_for_it(here, room, given_up, expected):
    passes = [uses([2, 2, 2, 2, 0, 0, 0, 0, 1, 1, 1, 1])]
    assert choose(passes, held(*here, given_up=given_up), room) == expected


def test_shards_that_are_read_in_turn_do_not_come_and_go():
    mixed = uses([0, 1, 2, 3] * 8)
    assert choose([mixed], held(0, 1), 5) is None
    assert choose([mixed], held(0, 1), 10) == (2, [])


def test_a_shard_that_never_fits_does_not_keep_others_out():
    passes = [uses([0, 1, 0, 1])]
    assert choose(passes, held(sizes=(50, 10)), 40) == (1, [])
