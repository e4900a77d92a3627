"""Ways for a video to take its worker down, by the video's stem. Only tests hand this to the workers."""

from __future__ import annotations

import ctypes
import os
import signal
import time

from shardify.deal import Task
from shardify.sample import Sample, make_samples
from shardify.settings import BuildSettings


def make_poisoned(task: Task, settings: BuildSettings) -> list[Sample]:
    stem = task.path.stem
    if stem.startswith("segfault"):
        ctypes.string_at(8)
    elif stem.startswith("abort"):
        os.abort()
    elif stem.startswith("spin"):
        libc = ctypes.PyDLL(None)  # holds the interpreter's lock, as native code may
        numbers = (ctypes.c_long * 4_000_000)()
        while True:
            libc.memset(numbers, 1, ctypes.sizeof(numbers))
    elif stem.startswith("stand"):
        time.sleep(3600)
    elif stem.startswith("slow"):
        time.sleep(1)
    elif stem.startswith("alloc"):
        bytearray(64 << 30)
    elif stem.startswith("die"):
        os._exit(3)
    elif stem.startswith("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    elif stem.startswith("flaky"):
        _die_once(task)
    elif stem.startswith("bug"):
        raise KeyError("a mistake of ours")
    elif stem.startswith("files"):
        held = [os.open("/dev/null", os.O_RDONLY) for _ in iter(int, 1)]
        raise AssertionError(held)
    return make_samples(task, settings)


def _die_once(task: Task) -> None:
    """As the kernel does to an innocent worker when memory runs short."""
    mark = task.path.with_suffix(".dead")
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
