"""What the trainer's tests share: folders of noisy clips, and shards of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from media import write_video

from shardify.build.build import build
from shardify.build.request import BuildRequest
from shardify.format.settings import BuildSettings

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
    report = build(BuildRequest(data, out, BuildSettings(**settings), workers=1))
    assert report.failed_inputs == 0, report.failures
    return out
