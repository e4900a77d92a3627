#!/usr/bin/env python3
"""What a large set costs before its first batch: opening the index and starting an epoch, by number of clips.

python scripts/bench_index.py [--clips 100,10000,1000000]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np

from shardify.format.index import json_bytes, sha256, shard_name
from shardify.format.members.frames import Frames
from shardify.format.records import npy_bytes, sample_dtype
from shardify.format.settings import BuildSettings

FRAMES, SIZE, PER_SHARD = 4, 16, 256
MEASURE = """
import resource, sys, time
import torch
from trainer.data.loader import ClipLoader
from trainer.shards.shard_set import open_shards

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before, start = peak_mb(), time.perf_counter()
shards = open_shards(sys.argv[1])
opened = time.perf_counter() - start
loader = ClipLoader(shards, batch_size=16)
next(iter(loader))
print(f"{len(shards.samples):>9} {opened:9.3f} {time.perf_counter() - start - opened:14.3f} {peak_mb() - before:9.0f}")
"""


def make_shards(folder: Path, clips: int) -> None:
    """A whole index over shards that are links to one: every clip has the same pixels."""
    member = Frames.of(BuildSettings(frames=FRAMES, size=SIZE))
    payload = member.encode(np.full((FRAMES, SIZE, SIZE, 3), 128, np.uint8))
    (folder / "one").write_bytes(payload)
    samples = np.zeros(clips, sample_dtype())
    samples["key"] = np.char.add("a-rather-long-name-of-a-video-", np.arange(clips).astype(str)).astype("S80")
    samples["shard"], samples["label_class"] = np.arange(clips) // PER_SHARD, np.arange(clips) % 2
    samples["frames_length"], samples["frames_crc"] = len(payload), zlib.crc32(payload)
    names = [shard_name("train", number) for number in range(-(-clips // PER_SHARD))]
    for name in names:
        os.symlink("one", folder / name)
    (folder / "samples.npy").write_bytes(npy_bytes(samples))
    shards = [
        {"name": name, "samples": PER_SHARD, "bytes": len(payload), "sha256": sha256(payload), "versions": {}}
        for name in names
    ]
    empty = {"samples": 0, "failed": 0, "shards": []}
    index = {
        "format": "shardify",
        "version": 2,
        "settings": {"frames": FRAMES, "size": SIZE, "codec": "jpeg"},
        "members": {"frames": member.to_dict()},
        "heads": [{"name": "class", "classes": ["real", "fake"]}],
        "classes": ["real", "fake"],
        "generated": False,
        "splits": {"train": {"samples": clips, "failed": 0, "shards": shards}, "val": empty, "test": empty},
        "failed": 0,
        "sha256": {"samples.npy": sha256(npy_bytes(samples)), "samples.csv": sha256(b"")},
    }
    (folder / "index.json").write_bytes(json_bytes(index))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", default="100,10000,1000000")
    print(f"{'clips':>9} {'open, s':>9} {'first batch, s':>14} {'more, MB':>9}", flush=True)
    for clips in map(int, parser.parse_args().clips.split(",")):
        with tempfile.TemporaryDirectory() as name:
            make_shards(Path(name), clips)
            subprocess.run([sys.executable, "-c", MEASURE, name], check=True)


if __name__ == "__main__":
    main()
