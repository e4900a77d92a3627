"""What the loader's tests share: a clip's pixels by another decoder, damage, shards that tell what is read."""

import dataclasses
import io
import math
import queue

import numpy as np
from PIL import Image

from trainer.errors import FormatError
from trainer.shards.shard_set import ShardSet, open_shards


def frames_of(shards, number):
    """uint8 (T, S, S, 3), by Pillow or NumPy alone."""
    payload, member = io.BytesIO(*shards.read(number)), shards.first_member
    if member.codec == "raw":
        return np.load(payload)
    return np.stack(cut(np.asarray(Image.open(payload).convert("RGB")), member.frames, member.cell, member.size))


def cut(sheet, num_frames, cell, size):
    """The frames of a contact sheet, one after the other."""
    columns = math.ceil(math.sqrt(num_frames))
    corners = [(cell * (i // columns), cell * (i % columns)) for i in range(num_frames)]
    return [sheet[y : y + size, x : x + size] for y, x in corners]


def damage(folder, number, name="frames"):
    """Flip a byte of the payload of a clip's member; returns the clip's key."""
    shards = open_shards(folder)
    path, record = shards.payload_path(number, name), shards.samples[number]
    start = 0 if path.parent in shards.unpacked else int(record[f"{name}_offset"])
    with open(path, "r+b") as file:
        file.seek(start + int(record[f"{name}_length"]) // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 255]))
    return shards.key(number)


def like(kind, shards):
    """The same shards as another class."""
    return kind(**{item.name: getattr(shards, item.name) for item in dataclasses.fields(shards)})


class WatchedShards(ShardSet):
    """Keeps the numbers that are read, in `asked`."""

    def read(self, number, names=(), checked=None):
        self.asked.put(number)
        return super().read(number, names, checked)


def watched(folder):
    shards = like(WatchedShards, open_shards(folder))
    object.__setattr__(shards, "asked", queue.SimpleQueue())
    return shards


class FlakyShards(ShardSet):
    """Storage that fails at one reading of a clip, and not again: `failures`, number → for each reading, whether."""

    def read(self, number, names=(), checked=None):
        if number in self.failures and self.failures[number].pop():
            raise FormatError(f"{self.where(number)} cannot be read (Input/output error); copy the folder again")
        return super().read(number, names, checked)


def flaky(folder, *numbers):
    """The first of the numbers fails at its first reading, the second at its second, and so on."""
    shards = like(FlakyShards, open_shards(folder))
    failures = {number: [False] * 20 + [True] + [False] * i for i, number in enumerate(numbers)}
    object.__setattr__(shards, "failures", failures)
    return shards
