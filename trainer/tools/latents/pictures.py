"""The clips of a folder of pictures as they lie in its shards: all files of each, checked against the tables."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shardify.format.index import ShardIndex, is_as_written, read_index, read_rows, sha256
from shardify.format.members.base import DAMAGE
from shardify.format.schema import SHARD
from shardify.format.tar import open_archive
from shardify.format.words import SPLITS
from shardify.storage.address import Address, place_of
from shardify.storage.local import file_sha256
from trainer.errors import FormatError
from trainer.shards.payloads import crc32
from trainer.shards.shard_set import ShardSet, open_shards


@dataclass(frozen=True)
class Clip:
    """A clip's row of samples.csv, and its files by extension."""

    row: dict[str, str]
    files: dict[str, bytes]


@dataclass(frozen=True)
class Pictures:
    """An opened folder of clips of one frame. Raises FormatError, which names the file, for one that is no such."""

    shards: ShardSet
    index: ShardIndex
    rows: dict[str, dict[str, str]]  # of samples.csv, by key

    @property
    def size(self) -> int:
        return self.shards.size

    def batches(self, shard: str, count: int, pool: ThreadPoolExecutor) -> Iterator[tuple[list[Clip], np.ndarray]]:
        """The clips of a shard in plan order, so many at a time, with their pictures, uint8 (B, S, S, 3).

        The next batch is read and decoded while one is in use.
        """
        begun = None
        for clips in _in_batches(self._clips(shard), count):
            following = clips, [pool.submit(self._decode, shard, clip) for clip in clips]
            if begun:
                yield _finish(*begun)
            begun = following
        if begun:
            yield _finish(*begun)

    def _clips(self, shard: str) -> Iterator[Clip]:
        split, number = SHARD.fullmatch(shard).groups()
        place = self.shards.paths[SPLITS.index(split), int(number)]
        samples = self.shards.samples[self.shards.numbers(split)]
        payloads = {member.extension: name for name, member in self.shards.members.items()}
        with open_archive(place) as archive:
            found = {member.name: member for member in archive.members}
            for record in samples[samples["shard"] == int(number)]:
                key, files = record["key"].decode(), {}
                for extension in ("cls", *payloads, "json"):
                    member = found.get(f"{key}.{extension}")
                    content = archive.read(member, member.length) if member else b""
                    if extension in payloads:
                        is_sound = crc32(content) == record[f"{payloads[extension]}_crc"]
                    elif extension == "json":
                        is_sound = sha256(content) == self.rows[key]["record_sha256"]
                    else:
                        is_sound = content == str(record[self.shards.heads[0].field]).encode()
                    if not is_sound:
                        raise FormatError(f"{place}: clip {key}: {extension} is damaged; see shardify verify")
                    files[extension] = content
                yield Clip(self.rows[key], files)

    def _decode(self, shard: str, clip: Clip) -> np.ndarray:
        frames = self.shards.first_member
        try:
            return frames.decode(clip.files[frames.extension])[0]
        except DAMAGE as error:
            raise FormatError(
                f"{self.index.folder / shard}: clip {clip.row['key']} cannot be decoded ({error})"
            ) from error


def open_pictures(name: Path) -> Pictures:
    """Open a whole folder of pictures that `shardify build --frames 1` has made, unpacked or not."""
    check_is_local(name)
    shards = open_shards(name)
    if not shards.has_crc:
        raise FormatError(f"{name}: has no index.json; only folders made by `shardify build` can be encoded")
    index = read_index(shards.folder)
    if len(shards.samples) != len(index.samples):
        raise FormatError(f"{name}: is a part of {shards.folder}; pass the whole folder")
    if index.meta["version"] == 1:
        raise FormatError(f"{shards.folder}: is of format version 1, to which no member is added; build it again")
    if shards.frames != 1:
        raise FormatError(
            f"{shards.folder}: holds clips of {shards.frames} frames; latents are of pictures: build with --frames 1"
        )
    if file_sha256(shards.folder / "samples.csv") != index.meta["sha256"]["samples.csv"]:
        raise FormatError(f"{shards.folder / 'samples.csv'}: differs from index.json; copy the folder again")
    rows = {row["key"]: row for row in read_rows(shards.folder) if row["status"] == "ok"}
    if not is_as_written(shards.folder) or rows.keys() != {key.decode() for key in index.samples["key"].tolist()}:
        raise FormatError(f"{shards.folder}: its tables do not agree; see shardify verify, or copy it again")
    return Pictures(shards, index, rows)


def check_is_local(path: Path) -> None:
    """Raises FormatError for an address in object storage."""
    if isinstance(place_of(path), Address):
        raise FormatError(f"{place_of(path)}: lies in object storage, which this command does not use; name a folder")


def to_images(pictures: np.ndarray) -> Tensor:
    """Pictures, uint8 (B, S, S, 3), as float32 (B, 3, S, S) in 0 to 1."""
    return torch.from_numpy(pictures).movedim(-1, 1).float() / 255


def _in_batches(clips: Iterator[Clip], count: int) -> Iterator[list[Clip]]:
    while batch := list(itertools.islice(clips, count)):
        yield batch


def _finish(clips: list[Clip], pictures: list[Future]) -> tuple[list[Clip], np.ndarray]:
    return clips, np.stack([picture.result() for picture in pictures])
