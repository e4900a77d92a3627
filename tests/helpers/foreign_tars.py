"""What the tests of other writers' tars share: a few clips, and tars of them."""

import tarfile

import numpy as np
import webdataset
from folders import FRAMES, SIZE

from shardify.format.members.frames import Frames
from trainer import ClipLoader

RNG = np.random.default_rng(0)
CLIPS = [RNG.integers(0, 256, (FRAMES, SIZE, SIZE, 3), np.uint8) for _ in range(6)]
MEMBER = Frames(codec="jpeg", frames=FRAMES, size=SIZE, cell=SIZE, quality=90)


def jpg(i):
    return MEMBER.encode(CLIPS[i])


def write(path, samples):
    with webdataset.TarWriter(str(path)) as writer:
        for sample in samples:
            writer.write(sample)
    return path


def tar_of(*members, end=bytes(1024)):
    """A tar from (name, content, changes of the TarInfo)."""
    whole = b""
    for name, content, changes in members:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        for attribute, value in changes.items():
            setattr(info, attribute, value)
        whole += info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)
    return whole + end


def pixels(shards):
    batches = list(ClipLoader(shards, batch_size=4, shuffle=False).batches(0))
    return np.concatenate([batch.clips.permute(0, 1, 3, 4, 2).numpy() for batch in batches])


SOUND = (("a.jpg", jpg(0), {}), ("a.cls", b"0", {}))
