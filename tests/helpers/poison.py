"""Ways for a video to take its worker down, or its time. Only tests hand these to the workers."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from shardify.build.encode import make_samples
from shardify.build.job import Job
from shardify.format.settings import BuildSettings
from shardify.format.shard import Sample


def make_poisoned(job: Job, settings: BuildSettings, faces_model: Path | None = None) -> list[Sample]:
    """What happens depends on the video's stem."""
    stem = job.path.stem
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
    elif stem.startswith("hold"):
        with open(job.path.with_suffix(".fifo"), "wb", buffering=0) as file:  # open as long as the worker lives
            file.write(b"here")
            time.sleep(3600)
    elif stem.startswith("slow"):
        time.sleep(1)
    elif stem.startswith("alloc"):
        np.empty(5 << 30, np.uint8)  # more than a worker may have, and never touched
    elif stem.startswith("die"):
        os._exit(3)
    elif stem.startswith("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    elif stem.startswith("flaky"):
        _die_once(job)
    elif stem.startswith("growing"):
        with _growing(job.path):
            for _ in range(1000):  # whether the other thread has its turn is up to the machine
                make_samples(job, settings)
    elif stem.startswith("bug"):
        raise KeyError("a mistake of ours")
    elif stem.startswith("import"):
        raise ImportError("failed to map segment from shared object")
    elif stem.startswith("files"):
        held = [os.open("/dev/null", os.O_RDONLY) for _ in iter(int, 1)]
        raise AssertionError(held)
    return make_samples(job, settings)


def make_delayed(
    job: Job, settings: BuildSettings, faces_model: Path | None = None, *, log: Path, salt: int = 0
) -> list[Sample]:
    """Each video after up to 50 ms of its own; `log` tells in which order they were done."""
    time.sleep(hashlib.sha256(f"{salt} {job.source}".encode()).digest()[0] / 5000)
    samples = make_samples(job, settings)
    with open(log, "a") as file:
        file.write(f"{job.source}\n")
    return samples


@contextlib.contextmanager
def _growing(path: Path) -> Iterator[None]:
    """Somebody writes the file all the while."""
    stop = threading.Event()

    def grow() -> None:
        with open(path, "ab", buffering=0) as file:
            while not stop.is_set():
                file.write(b"\0")

    sys.setswitchinterval(1e-6)  # the two threads take turns at every step
    writer = threading.Thread(target=grow)
    writer.start()
    yield
    stop.set()
    writer.join()


def _die_once(job: Job) -> None:
    """As the kernel does to an innocent worker when memory runs short."""
    mark = job.path.with_suffix(".dead")
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
