"""Shards folders whose clips have a second member: depth, with a second head, side; or mel spectrograms."""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
from folders import FRAMES, SIZE

from shardify.format.index import ShardIndex, read_index, sha256
from shardify.format.members.array import Array
from shardify.format.members.base import Member
from shardify.format.members.mel import Mel
from shardify.format.records import UNLABELLED, npy_bytes, sample_dtype
from shardify.format.shard import ShardWriter, journal_path
from shardify.format.tar import read_shard

DEPTH = Array(name="depth", sides=(FRAMES, SIZE, SIZE), type="float16")
MEL = Mel(rate=16_000, mels=8, columns=4 * FRAMES, window=25.0, hop=10.0, low=20.0, high=8000.0)


def depth_of(frames: np.ndarray) -> np.ndarray:
    """float16 (…, S, S) of frames uint8 (…, S, S, 3); the halves of negative numbers too."""
    return (frames.astype(np.float32).mean(-1) / 2 - 50).astype(np.float16)


def add_depth(folder: Path) -> Path:
    """Write a folder's shards and tables again with the second member and head, whose labels are 1, 0 and none."""
    side = {"name": "side", "classes": ["left", "right"]}
    return _add_member(folder, DEPTH, lambda frames, number: depth_of(frames), [side])


def mel_of(number: int) -> np.ndarray:
    """float16 (1, M, F): the made-up spectrogram of the clip of this number in samples.npy."""
    return np.random.default_rng(number).normal(-5, 3, MEL.shape).astype(np.float16)


def add_mel(folder: Path, absent: Collection[int] = ()) -> Path:
    """Write a folder's shards and tables again with `mel_of` each clip; absent: numbers of clips without sound."""
    return _add_member(folder, MEL, lambda _, number: MEL.silence() if number in absent else mel_of(number), [], absent)


def _add_member(
    folder: Path, member: Member, make: Callable[[np.ndarray, int], np.ndarray], heads: list[dict],
    absent: Collection[int] = (),
) -> Path:  # fmt: skip
    """make: the values of a clip from its frames and number."""
    index = read_index(folder)
    members = index.members | {member.name: member}
    heads = [*index.meta["heads"], *heads]
    samples = np.zeros(len(index.samples), sample_dtype(members, [head["name"] for head in heads]))
    for name in index.samples.dtype.names:
        samples[name] = index.samples[name]
    for head in heads[1:]:
        samples[f"label_{head['name']}"] = np.resize([1, 0, UNLABELLED], len(samples))
    if member is MEL:
        samples["mel_present"] = [number not in absent for number in range(len(samples))]
    for split in index.meta["splits"].values():
        for shard in split["shards"]:
            _write_again(index, shard, members, samples, make)
    (folder / "samples.npy").write_bytes(npy_bytes(samples))
    entries = {name: about.to_dict() for name, about in members.items()}
    hashes = index.meta["sha256"] | {"samples.npy": sha256(npy_bytes(samples))}
    meta = index.meta | {"members": entries, "heads": heads, "sha256": hashes}
    (folder / "index.json").write_text(json.dumps(meta))
    return folder


def _write_again(
    index: ShardIndex, shard: dict, members: dict[str, Member], samples: np.ndarray, make: Callable
) -> None:
    """One tar with the second member, and where all of them lie in it."""
    packed = defaultdict(dict)
    for name, _, content in read_shard(index.folder / shard["name"]):
        key, _, extension = name.partition(".")
        packed[key][extension] = content
    frames, added = members["frames"], list(members.values())[-1]
    with ShardWriter(index.folder, shard["name"], members) as writer:
        for key, files in packed.items():
            (number,) = np.flatnonzero(samples["key"] == key.encode()).tolist()
            files[added.extension] = added.encode(make(frames.decode(files[frames.extension]), number))
            crc = zlib.crc32(files[added.extension])
            writer.copy({"key": key, "status": "ok", f"{added.name}_crc": crc}, files)
        entry = writer.finish("", shard["versions"])
    journal_path(index.folder, shard["name"]).unlink()
    shard |= {name: entry[name] for name in ("bytes", "sha256")}
    for row in entry["rows"]:
        (number,) = np.flatnonzero(samples["key"] == row["key"].encode())
        for name in ("frames_offset", *(f"{added.name}_{what}" for what in ("offset", "length", "crc"))):
            samples[name][number] = row[name]
