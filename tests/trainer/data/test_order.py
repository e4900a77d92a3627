"""The order of an epoch, and how ranks share it."""

from functools import partial

import numpy as np
import pytest

from trainer.data.order import count_repeats, epoch_order, interval_order, num_steps, paired_order, rank_batch

NUMBERS = np.arange(100, 133)


def test_every_clip_once_and_a_new_order_per_epoch_and_seed():
    orders = [epoch_order(NUMBERS, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert all(np.array_equal(np.sort(order), NUMBERS) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert np.array_equal(orders[0], epoch_order(NUMBERS, 0, 0))


def test_the_order_is_pinned():
    """A checkpoint of one release must go on under the next."""
    assert epoch_order(np.arange(10), 7, 3).tolist() == [3, 5, 4, 7, 8, 0, 9, 2, 1, 6]


@pytest.mark.parametrize("clips", [10, 33, 80])
def test_intervals_follow_one_another_through_the_passes(clips):
    one_pass = partial(epoch_order, NUMBERS, 0)
    intervals = [interval_order(one_pass, len(NUMBERS), clips, number) for number in range(5)]
    assert {len(order) for order in intervals} == {clips}
    passes = np.concatenate([one_pass(number) for number in range(13)])
    assert np.array_equal(np.concatenate(intervals), passes[: 5 * clips]), "none is left out at a boundary"


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("batch_size", [1, 4, 5, 33, 64])
def test_ranks_share_the_same_global_batches(world, batch_size):
    order = epoch_order(NUMBERS, 0, 0)
    steps = num_steps(len(order), batch_size)
    seen = []
    for step in range(steps):
        parts = [rank_batch(order, step, batch_size, rank, world) for rank in range(world)]
        assert len({len(numbers) for numbers, _ in parts}) == 1, "ranks with unequal batches hang"
        assert all(set(numbers) <= set(order) for numbers, _ in parts)
        real = np.concatenate([numbers[mask] for numbers, mask in parts])
        assert np.array_equal(real, order[step * batch_size : (step + 1) * batch_size])
        seen.extend(real)
    assert np.array_equal(seen, order)


LABELS = np.array([0] * 27 + [1] * 4 + [5] * 2)


def test_balanced_classes():
    drawn = [epoch_order(NUMBERS, 0, epoch, labels=LABELS) for epoch in range(30)]
    for order in drawn:
        assert len(order) == 33
        assert np.bincount(LABELS[order - 100]).tolist() == [11, 11, 0, 0, 0, 11]
        counts = np.bincount(order - 100)[27:31]
        assert counts.max() - counts.min() <= 1, "clips of a class repeat equally often"
    assert set(np.concatenate(drawn)) == set(NUMBERS), "over the epochs every clip has its turn"
    assert np.array_equal(drawn[3], epoch_order(NUMBERS, 0, 3, labels=LABELS))


def test_repeats_are_counted_in_the_order():
    assert count_repeats(np.array([7, 3, 7, 7, 1, 3])).tolist() == [0, 0, 1, 2, 0, 1]
    order = epoch_order(NUMBERS, 0, 0, labels=LABELS)
    pairs = np.stack([order, count_repeats(order)], 1)
    assert len(np.unique(pairs, axis=0)) == len(order) > len(np.unique(order))


@pytest.mark.parametrize("at_once", [1, 2, 5, 100])
def test_shards_a_few_at_a_time(at_once):
    shards = np.repeat(np.arange(11), 3)
    orders = [epoch_order(NUMBERS, 0, epoch, shards=shards, shards_at_once=at_once) for epoch in range(2)]
    for order in orders:
        assert np.array_equal(np.sort(order), NUMBERS)
        blocks = [set(shards[order[i : i + 3 * at_once] - 100]) for i in range(0, 33, 3 * at_once)]
        shared = sum(map(len, blocks)) - 11
        assert shared <= len(blocks) - 1, "blocks share no shard, but for the smaller one that shifts its neighbours"
    assert not np.array_equal(*orders)
    if at_once > 1:
        assert not np.array_equal(np.sort(orders[0][:6]), orders[0][:6])


def test_balanced_shards_a_few_at_a_time():
    shards = np.arange(33) % 4
    order = epoch_order(NUMBERS, 0, 0, labels=LABELS, shards=shards, shards_at_once=2)
    assert np.bincount(LABELS[order - 100]).tolist() == [11, 11, 0, 0, 0, 11]
    visited = shards[order - 100]
    first = set(visited[: len(visited) // 4])
    changes = np.flatnonzero(~np.isin(visited, list(first)))
    assert len(first) == 2
    assert np.isin(visited[changes[0] :], list(first)).sum() == 0


PAIRS = np.array([[1, 10], [1, 11], [2, 12], [3, 13], [4, 14]])


@pytest.mark.parametrize("count", [4, 10, 13])
def test_pairs_stand_side_by_side(count):
    orders = [paired_order(PAIRS, count, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    for order in orders:
        assert len(order) == count
        drawn = order[: count // 2 * 2].reshape(-1, 2).tolist()
        assert all(pair in PAIRS.tolist() for pair in drawn)
        times = [drawn.count(pair) for pair in PAIRS.tolist()]
        assert max(times) - min(times) <= 1, "no pair comes twice before each has come once"
    assert len({tuple(order) for order in orders}) == 4 or count == 4
    assert np.array_equal(orders[0], paired_order(PAIRS, count, 0, 0))
    if count == 4:
        many = np.concatenate([paired_order(PAIRS, count, 0, epoch) for epoch in range(20)])
        assert set(many) == set(PAIRS.flat), "over the epochs every pair has its turn"
