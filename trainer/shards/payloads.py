"""The payloads of a clip: a part of a file of this machine, and what is wrong with what was read."""

from __future__ import annotations

from pathlib import Path

from shardify.format.members.base import MAX_BYTES
from shardify.storage.local import open_reader

try:  # the same checksum, 16 times as fast
    from zlib_ng.zlib_ng import crc32
except ImportError:
    from zlib import crc32

Place = tuple[int, int]  # offset and length of a payload in its shard, bytes
Payloads = list[bytes | memoryview]  # of the members of one clip
HERE = 1  # the number of every file that is no copy


def find_problem(payloads: Payloads, places: list[Place], crcs: list[int] | None) -> str:
    """What is wrong with the payloads of a clip, "" if nothing is. crcs: None where they are not checked."""
    for payload, (_, length) in zip(payloads, places, strict=True):
        if len(payload) < length:
            return "the file ends too early"
    if crcs is not None and any(crc32(payload) != crc for payload, crc in zip(payloads, crcs, strict=True)):
        return "payload differs from the index"
    return ""


def read_part(path: Path, offset: int, length: int) -> tuple[bytes, int]:
    """A part of a file, nothing where it is not there as a whole, and HERE. Raises OSError."""
    with open_reader(path) as reader:
        is_there = offset + length <= reader.size and length <= MAX_BYTES  # before memory is taken for it
        return reader.read(offset, length) if is_there else b"", HERE
