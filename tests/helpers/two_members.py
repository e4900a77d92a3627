"""A shards folder whose clips have a second member, depth, and a second head, side."""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np
from folders import FRAMES, SIZE

from shardify.format.index import ShardIndex, read_index, sha256
from shardify.format.members.array import Array
from shardify.format.members.base import Member
from shardify.format.records import UNLABELLED, npy_bytes, sample_dtype
from shardify.format.shard import ShardWriter, journal_path
from shardify.format.tar import read_shard

DEPTH = Array(name="depth", sides=(FRAMES, SIZE, SIZE), type="float16")


def depth_of(frames: np.ndarray) -> np.ndarray:
    """float16 (…, S, S) of frames uint8 (…, S, S, 3); the halves of negative numbers too."""
    return (frames.astype(np.float32).mean(-1) / 2 - 50).astype(np.float16)


def add_depth(folder: Path) -> Path:
    """Write a folder's shards and tables again with the second member and head, whose labels are 1, 0 and none."""
    index = read_index(folder)
    members = index.members | {"depth": DEPTH}
    heads = [*index.meta["heads"], {"name": "side", "classes": ["left", "right"]}]
    samples = np.zeros(len(index.samples), sample_dtype(members, [head["name"] for head in heads]))
    for name in index.samples.dtype.names:
        samples[name] = index.samples[name]
    samples["label_side"] = np.resize([1, 0, UNLABELLED], len(samples))
    for split in index.meta["splits"].values():
        for shard in split["shards"]:
            _write_again(index, shard, members, samples)
    (folder / "samples.npy").write_bytes(npy_bytes(samples))
    entries = {name: member.to_dict() for name, member in members.items()}
    hashes = index.meta["sha256"] | {"samples.npy": sha256(npy_bytes(samples))}
    meta = index.meta | {"members": entries, "heads": heads, "sha256": hashes}
    (folder / "index.json").write_text(json.dumps(meta))
    return folder


def _write_again(index: ShardIndex, shard: dict, members: dict[str, Member], samples: np.ndarray) -> None:
    """One tar with the second member, and where all of them lie in it."""
    packed = defaultdict(dict)
    for name, _, content in read_shard(index.folder / shard["name"]):
        key, _, extension = name.partition(".")
        packed[key][extension] = content
    with ShardWriter(index.folder, shard["name"], members) as writer:
        for key, files in packed.items():
            depth = depth_of(members["frames"].decode(files[members["frames"].extension]))
            files[DEPTH.extension] = DEPTH.encode(depth)
            writer.copy({"key": key, "status": "ok", "depth_crc": zlib.crc32(files[DEPTH.extension])}, files)
        entry = writer.finish("", shard["versions"])
    journal_path(index.folder, shard["name"]).unlink()
    shard |= {name: entry[name] for name in ("bytes", "sha256")}
    for row in entry["rows"]:
        (number,) = np.flatnonzero(samples["key"] == row["key"].encode())
        for name in ("frames_offset", "depth_offset", "depth_length", "depth_crc"):
            samples[name][number] = row[name]
