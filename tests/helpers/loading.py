"""What the loader's tests share: a clip's pixels by the format's own decoder, damage, shards that tell what is read."""

import dataclasses
import queue

from shardify.format.members import frames
from trainer.data.shard_set import ShardSet, open_shards
from trainer.errors import FormatError


def frames_of(shards, number):
    """uint8 (T, S, S, 3), by the format's own decoder."""
    payload = shards.read(number)
    if shards.codec == "raw":
        return frames.decode_raw(payload)
    return frames.from_sheet(frames.decode_jpeg(payload), shards.frames)


def damage(folder, number):
    """Flip a byte of a clip's payload; returns its key."""
    shards = open_shards(folder)
    with open(shards.payload_path(number), "r+b") as file:
        file.seek(int(shards.samples["offset"][number]) + int(shards.samples["length"][number]) // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 255]))
    return shards.key(number)


class WatchedShards(ShardSet):
    """Keeps the numbers that are read, in `asked`."""

    def read(self, number, check=True):
        self.asked.put(number)
        return super().read(number, check)


def watched(folder):
    plain = open_shards(folder)
    shards = WatchedShards(**{item.name: getattr(plain, item.name) for item in dataclasses.fields(plain)})
    object.__setattr__(shards, "asked", queue.SimpleQueue())
    return shards


class FlakyShards(ShardSet):
    """Storage that fails at one reading of a clip, and not again: `failures`, number → for each reading, whether."""

    def read(self, number, check=True):
        if number in self.failures and self.failures[number].pop():
            raise FormatError(f"{self.where(number)} cannot be read (Input/output error); copy the folder again")
        return super().read(number, check)


def flaky(folder, *numbers):
    """The first of the numbers fails at its first reading, the second at its second, and so on."""
    plain = open_shards(folder)
    shards = FlakyShards(**{item.name: getattr(plain, item.name) for item in dataclasses.fields(plain)})
    failures = {number: [False] * 20 + [True] + [False] * i for i, number in enumerate(numbers)}
    object.__setattr__(shards, "failures", failures)
    return shards
