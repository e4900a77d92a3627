"""Batches of pairs: a fake beside its original, for any number of ranks, and again after a stop."""

import dataclasses

import numpy as np
import pytest

from shardify.format.records import Head
from trainer import ClipLoader
from trainer.errors import SettingsError
from trainer.shards.shard_set import open_shards


@pytest.fixture
def deepfakes(shards_folder):
    """The folder's 10 real clips and 10 fakes of train, of which the first 8 were made from 4 of the real ones."""
    shards = open_shards(shards_folder)
    samples = np.array(shards.samples)
    reals, fakes = (shards.numbers("train")[shards.labels[shards.numbers("train")] == k] for k in (0, 1))
    samples["original"][fakes[:8]] = samples["source"][np.repeat(reals[:4], 2)]
    return dataclasses.replace(shards, samples=samples, heads=[Head("class", ["real", "fake"])])


def pairs_in(batches):
    return [tuple(pair) for batch in batches for pair in batch.numbers.reshape(-1, 2).tolist()]


def test_each_fake_stands_beside_its_original(deepfakes):
    loader = ClipLoader(deepfakes, batch_size=6, pairs=True)
    number = {int(source): i for i, source in enumerate(deepfakes.samples["source"])}
    originals = {number[original] for original in deepfakes.samples["original"].tolist() if original >= 0}
    for epoch in range(4):
        batches = list(loader.batches(epoch))
        assert [len(batch.numbers) for batch in batches] == [6, 6, 6, 2]
        assert len(set(np.concatenate([batch.seeds for batch in batches])[:, 1])) > 1, (
            "a repeated clip has its own draw"
        )
        for real, fake in pairs_in(batches):
            assert (deepfakes.labels[real], deepfakes.labels[fake]) == (0, 1)
            original = int(deepfakes.samples["original"][fake])
            assert number.get(original) == real or real not in originals
    assert (len(originals), loader.pairs.strangers) == (4, 2)
    seen = {number for epoch in range(4) for pair in pairs_in(loader.batches(epoch)) for number in pair}
    assert seen == set(deepfakes.numbers("train").tolist())


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_same_pairs(deepfakes, world):
    whole = [batch.numbers.tolist() for batch in ClipLoader(deepfakes, batch_size=6, pairs=True).batches(1)]
    ranks = [ClipLoader(deepfakes, batch_size=6, pairs=True, rank=rank, world=world) for rank in range(world)]
    parts = zip(*(loader.batches(1) for loader in ranks), strict=True)
    assert [np.concatenate([part.numbers[part.mask] for part in step]).tolist() for step in parts] == whole


def test_a_pass_goes_on_where_it_stopped(deepfakes):
    first = ClipLoader(deepfakes, batch_size=6, pairs=True, seed=3)
    passing = iter(first)
    next(passing)
    state = first.state_dict()
    rest = [clips.numpy().tobytes() for clips, _ in passing]
    again = ClipLoader(deepfakes, batch_size=6, pairs=True, seed=3)
    again.load_state_dict(state)
    assert [clips.numpy().tobytes() for clips, _ in again] == rest
    with pytest.raises(SettingsError, match="pairs is False, the state has True"):
        ClipLoader(deepfakes, batch_size=6, seed=3).load_state_dict(state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 5}, "batch_size is 5; with pairs"),
        ({"weights": [1]}, "pairs and weights"),
        ({"shuffle_shards": 2}, "pairs and shuffle_shards"),
        ({"balanced": True}, "pairs and balanced"),
    ],
)
def test_what_does_not_go_with_pairs(deepfakes, options, message):
    with pytest.raises(SettingsError, match=message):
        ClipLoader(deepfakes, pairs=True, **options)
