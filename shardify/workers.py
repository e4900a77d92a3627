"""Isolated worker processes: a crash, an endless decode or a huge allocation costs one video, not the build."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import TimeoutError as DeadlineError

from pebble import ProcessExpired, ProcessPool

from shardify.deal import Task
from shardify.errors import VideoError
from shardify.sample import Sample, make_samples
from shardify.settings import BuildSettings

MEMORY_BYTES = 4 << 30  # address space of one worker
STANDSTILL = 10  # a video may take this many times its CPU deadline by the clock
AHEAD = 16  # videos in flight per worker: bounds the memory, and a slow video holds up nobody


def run_tasks(
    tasks: Sequence[Task], settings: BuildSettings, *, workers: int, timeout_seconds: float
) -> Iterator[list[Sample] | str]:
    """For each task, in order: its samples, or the reason why there are none.

    timeout_seconds: CPU time that one video may take, so that a busy machine fails nothing.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["shardify.decode", "shardify.sample", "PIL.Image"])
    pool = ProcessPool(max_workers=min(workers, max(1, len(tasks))), initializer=_start_worker, context=context)
    waiting: deque = deque()
    rest = iter(tasks)
    try:
        while True:
            while len(waiting) < workers * AHEAD and (task := next(rest, None)) is not None:
                arguments = (task, settings, timeout_seconds)
                waiting.append(pool.schedule(_run_one, args=arguments, timeout=STANDSTILL * timeout_seconds))
            if not waiting:
                break
            yield _outcome(waiting.popleft(), timeout_seconds)
        pool.close()
    finally:
        pool.stop()  # after close: nothing is left to stop; else: an error or Ctrl-C ends the workers now
        pool.join()


def _outcome(future, timeout_seconds: float) -> list[Sample] | str:
    try:
        return future.result()
    except VideoError as error:
        return str(error)
    except DeadlineError:
        return f"stood still for {STANDSTILL * timeout_seconds:.0f} s; raise --timeout if the file is sound"
    except ProcessExpired as error:
        code = -(error.exitcode or 0)
        if code == signal.SIGXCPU:
            return f"took more than {timeout_seconds:g} s of CPU time; raise --timeout if the file is sound"
        name = signal.Signals(code).name if code in set(signal.Signals) else f"exit code {error.exitcode}"
        return f"the decoder crashed on it ({name})"


def _start_worker() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends the workers itself


def _run_one(task: Task, settings: BuildSettings, timeout_seconds: float) -> list[Sample]:
    used = sum(os.times()[:2])
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used + timeout_seconds) + 1, hard))  # SIGXCPU ends the process
    return make_samples(task, settings)
