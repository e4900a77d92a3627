"""The gait demo's data: recordings stay together, files are the same wherever they are made, walks are possible."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from shardify.sources.catalog import list_sources

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import gait_radar
import make_demo_gait as maker


def test_recordings_are_in_one_split_each_and_in_proportion():
    assert Counter(split for *_, split in maker.rows(2, 15, 10)) == {"train": 100, "val": 40, "test": 160}
    assert [Counter(maker.splits(count)) for count in (3, 4, 10)] == [
        {"train": 1, "val": 1, "test": 1}, {"train": 1, "val": 1, "test": 2}, {"train": 4, "val": 1, "test": 5}
    ]  # fmt: skip
    assert len({(group, split) for _, _, group, split in maker.rows(3, 15, 2)}) == 45


def test_a_foot_stands_and_swings_as_far_as_the_body_goes():
    walk = gait_radar.draw_recording(np.random.default_rng(0), gait_radar.draw_person(np.random.default_rng(1)), 0.4)
    cycle = 1.346 / np.sqrt(walk["relative_velocity"])
    moving, echoes = gait_radar.velocities(walk, np.arange(0, 10 * cycle, cycle / 1000))
    speed = walk["relative_velocity"] * 0.491 * walk["height"]
    assert len(moving) == len(echoes)
    assert moving.mean(1) == pytest.approx(np.full(len(moving), speed), rel=0.01)
    assert (moving[0] == 0).mean() == pytest.approx(1 - walk["swing"], abs=0.01)
    assert moving.max() < gait_radar.RATE / 2 * gait_radar.LIGHT / gait_radar.CARRIER / 2, "no velocity folds over"


def test_a_picture_shows_velocity_upwards():
    walk = dict.fromkeys(gait_radar.PERSON, 0.0) | {
        "height": 1.7, "relative_velocity": 1.4, "swing": 0.4, "foot_power": 1.0, "start": 0.0, "noise": 0.01,
    }  # a body without limbs  # fmt: skip
    signal = gait_radar.echo(np.random.default_rng(0), walk, 0.0)
    shown = np.asarray(gait_radar.picture(signal, 256)).astype(int)
    brightest = np.median(np.abs(shown - gait_radar.COLOURS[-1]).sum(2).argmin(0))
    doppler = 2 * 1.4 * 0.491 * 1.7 * gait_radar.CARRIER / gait_radar.LIGHT
    assert brightest == pytest.approx(127 - doppler / gait_radar.RATE * gait_radar.BINS, abs=2)


def test_files_are_the_same_wherever_they_are_made(tmp_path):
    assert maker.make_all(tmp_path / "a", (2, 3, 2), 32, 0.4, 0) and not maker.make_all(
        tmp_path / "a", (2, 3, 2), 32, 0.4, 0
    )
    maker.make_all(tmp_path / "b", (2, 3, 2), 32, 0.4, 0)
    names = [row[0] for row in maker.rows(2, 3, 2)]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)
    assert len({(tmp_path / "a" / name).read_bytes() for name in names}) == 12
    assert Image.open(tmp_path / "a" / names[0]).size == (32, 32)
    assert len(list_sources(tmp_path / "a", tmp_path / "a" / maker.MANIFEST).sources) == 12
    (tmp_path / "own/user-ann").mkdir(parents=True)
    (tmp_path / "own/user-ann/holiday.jpg").touch()
    with pytest.raises(click.UsageError, match=r"holiday\.jpg was not made here"):
        maker.make_all(tmp_path / "own", (2, 3, 2), 32, 0.4, 0)
    assert maker.make_all(tmp_path / "a", (2, 3, 2), 32, 0.5, 0), "with another jitter they are made anew"
