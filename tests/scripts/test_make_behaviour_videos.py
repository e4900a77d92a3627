"""The behaviour demo's data: species, motion and call are independent, and files say nothing about any of them."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from pathlib import Path

import av
import numpy as np
import pytest

from shardify.sources.catalog import list_sources

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import behaviour_clips
import make_behaviour_videos as maker

FULL = {"train": 1000, "val": 200, "test": 500}


def test_what_a_clip_shows_and_sounds_like_tells_one_thing_alone():
    frames = {m: behaviour_clips.frames_of(np.random.default_rng(0), "fox", m, 16, 32) for m in behaviour_clips.MOTIONS}
    one, other = frames.values()
    assert np.array_equal(one[0], other[0]) and not np.array_equal(one[4], other[4]), "a single frame shows no motion"
    calls = [behaviour_clips.sound_of(np.random.default_rng(0), call).astype(float) for call in behaviour_clips.CALLS]
    energies = [np.square(samples).sum() for samples in calls]
    assert energies[0] == pytest.approx(energies[1], rel=0.02) and np.abs(calls[0] - calls[1]).max() > 0.1


def test_every_recipe_has_every_combination_and_gaps_are_in_train_alone():
    clips = maker.list_clips(FULL, seed=0)
    by_recipe = defaultdict(list)
    for clip in clips:
        by_recipe[clip.seed[1], clip.seed[2] // 12].append(clip)
    for same in by_recipe.values():
        assert len({(clip.encoding, clip.rate, clip.offset) for clip in same}) == 1
        assert len({(clip.species, clip.motion, clip.call) for clip in same}) == len(same)
    assert Counter(clip.offset for clip in clips if clip.encoding.container != "avi").keys() == {0.0, 0.3, -0.2}
    train = [clip for clip in clips if clip.name.startswith("train")]
    assert 35 <= sum(not clip.has_sound for clip in train) <= 65
    assert 80 <= sum(not clip.has_species for clip in train) <= 120
    assert all(clip.has_sound and clip.has_species for clip in clips[1000:])


def test_files_are_the_same_wherever_they_are_made_and_sound_starts_where_it_should(tmp_path):
    assert maker.make_all(tmp_path / "a", {"train": 0, "val": 0, "test": 48}, seed=0, workers=1)
    assert not maker.make_all(tmp_path / "a", {"train": 0, "val": 0, "test": 48}, seed=0, workers=1)
    clips = maker.list_clips({"train": 0, "val": 0, "test": 48}, seed=0)
    for clip in clips[::12]:
        again = tmp_path / f"again.{clip.encoding.container}"
        maker.make_clip(again, clip)
        made = tmp_path / "a" / clip.name
        assert made.read_bytes() == again.read_bytes()
        with av.open(made) as container:
            starts = [float(stream.start_time * stream.time_base) for stream in container.streams]
        assert starts[1] - starts[0] == pytest.approx(clip.offset, abs=0.07), "but for what an encoder has ahead"
    catalog = list_sources(tmp_path / "a", tmp_path / "a" / "videos.csv")
    assert catalog.heads == ("species", "behaviour") and len(catalog.sources) == 48
