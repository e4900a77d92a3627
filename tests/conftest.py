"""Real encoded clips and small shards folders, made once per test session by the project's own builder."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from media import write_video

from shardify.build import build
from shardify.settings import BuildSettings

FRAMES, SIZE = 5, 16  # five frames in a grid of six cells: one cell is unused
LAYOUT = {f"{split}/{name}": count for split, count in (("train", 10), ("val", 4), ("test", 4)) for name in "ab"}


def make_clips(data: Path, layout: dict[str, int], *, frames: int = 10, pixels: int = 32, seed: int = 0) -> Path:
    """Noisy videos in `data`/<folder>/, `layout` says how many in which; each class has a brightness of its own."""
    names = sorted({Path(folder).name for folder in layout})
    for folder, count in layout.items():
        (data / folder).mkdir(parents=True, exist_ok=True)
        brightness = 60 + 100 * names.index(Path(folder).name) // max(1, len(names) - 1)
        for i in range(count):
            rng = np.random.default_rng([seed, i, *folder.encode()])
            pictures = rng.normal(brightness, 25, (frames, pixels, pixels, 3)).clip(0, 255).astype(np.uint8)
            name = f"{folder.replace('/', '_')}_{i:03d}.mkv"
            write_video(data / folder / name, pictures, codec="ffv1", pixel_format="bgr0")
    return data


def build_shards(data: Path, out: Path, **settings) -> Path:
    settings = {"frames": FRAMES, "size": SIZE, "shard_size": 8} | settings
    report = build(data, out, BuildSettings(**settings), workers=2)
    assert report.failed_inputs == 0, report.failures
    return out


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory) -> Path:
    """20 train, 8 val and 8 test videos of the classes a and b."""
    return make_clips(tmp_path_factory.mktemp("made") / "data", LAYOUT)


@pytest.fixture(scope="session")
def shards_folder(data_folder, tmp_path_factory) -> Path:
    """JPEG shards of `data_folder`, in 3 train, 1 val and 1 test tar. Not to be changed: copy it first."""
    return build_shards(data_folder, tmp_path_factory.mktemp("made") / "shards")


@pytest.fixture(scope="session")
def raw_folder(data_folder, tmp_path_factory) -> Path:
    """The same as raw shards."""
    return build_shards(data_folder, tmp_path_factory.mktemp("made") / "raw", codec="raw")


@pytest.fixture
def own_shards(shards_folder, tmp_path) -> Path:
    """A copy of `shards_folder` that a test may damage."""
    return shutil.copytree(shards_folder, tmp_path / "shards")
