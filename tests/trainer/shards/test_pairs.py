"""Which real clip stands beside which fake: its original's clip of the same time, and nobody is left out."""

import dataclasses

import numpy as np
import pytest

from shardify.format.records import DTYPE_1, Head, name_fields, sample_dtype
from trainer.errors import SettingsError
from trainer.shards.pairs import find_pairs, real_and_fake
from trainer.shards.shard_set import open_shards


@pytest.fixture
def shards_of(shards_folder):
    """Shards of these videos, one (class, number of clips, number of its original) each."""

    def make(*videos, classes=("real", "fake")):
        rows = [
            (classes.index(name), i, original) for i, (name, clips, original) in enumerate(videos) for _ in range(clips)
        ]
        samples = np.zeros(len(rows), sample_dtype())
        samples["label_class"], samples["source"], samples["original"] = zip(*rows, strict=True)
        return dataclasses.replace(open_shards(shards_folder), samples=samples, heads=[Head("class", list(classes))])

    return make


def pairs_of(shards, numbers=None):
    return find_pairs(shards, np.arange(len(shards.samples)) if numbers is None else numbers)


def test_each_clip_of_a_fake_stands_beside_the_same_time_of_its_original(shards_of):
    shards = shards_of(("fake", 3, 1), ("real", 2, -1), ("real", 3, -1), ("fake", 3, 2), ("fake", 2, 2))
    found = pairs_of(shards, np.random.default_rng(0).permutation(13))
    beside = {fake: real for real, fake in found.numbers.tolist()}
    assert beside == {0: 3, 1: 4, 2: 3, 8: 5, 9: 6, 10: 7, 11: 5, 12: 6}, "an original of fewer clips begins again"
    assert (found.fakes, found.strangers) == (8, 0)
    assert found.note() == "data.pairs: each of the 8 fakes stands beside its original"


def test_fakes_without_their_original_stand_beside_real_clips_that_have_no_fake(shards_of):
    shards = shards_of(("real", 1, -1), ("real", 1, -1), ("fake", 1, 0), ("fake", 1, -1), ("fake", 1, 77))
    found = pairs_of(shards)
    assert found.numbers.tolist() == [[0, 2], [1, 3], [1, 4]]
    assert found.note().startswith("data.pairs: 1 of 3 fakes stand beside their original")
    assert pairs_of(shards, np.array([0, 2, 3])).numbers.tolist() == [[0, 2], [0, 3]]


def test_real_clips_without_a_fake_have_their_turn(shards_of):
    found = pairs_of(shards_of(("real", 3, -1), ("fake", 1, 4), ("fake", 1, -1), ("real", 1, -1), ("real", 1, -1)))
    assert found.numbers.tolist() == [[6, 3], [0, 4], [1, 3], [2, 4], [5, 3]]


def test_version_1_knows_no_originals(shards_of):
    shards = shards_of(("real", 2, -1), ("fake", 2, 0))
    old = np.zeros(4, DTYPE_1)
    old["label"], old["key"] = [0, 0, 1, 1], [f"{i}".encode() for i in range(4)]
    found = find_pairs(dataclasses.replace(shards, samples=name_fields(old)), np.arange(4))
    assert found.strangers == 2


@pytest.mark.parametrize("classes", [("a", "b"), ("real", "cat"), ("real", "original"), ("real", "fake", "cat")])
def test_other_classes_are_refused(classes):
    with pytest.raises(SettingsError, match=f"data.pairs needs two classes.*have {', '.join(classes)}"):
        real_and_fake(list(classes), "data.pairs")


def test_classes_are_known_by_their_meaning():
    assert real_and_fake(["real", "fake"], "") == (0, 1)
    assert real_and_fake(["manipulated_sequences", "original_sequences"], "") == (1, 0)


def test_a_class_that_is_not_there(shards_of):
    with pytest.raises(SettingsError, match=r"data\.pairs needs real clips and fakes"):
        pairs_of(shards_of(("real", 3, -1)))
