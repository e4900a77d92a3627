"""Isolated worker processes: a crash, an endless decode or a huge allocation costs one video, not the build.

Every worker has a pipe of its own. (pebble's share one, with a lock: in trials a worker that died while it
held either broke the whole pool or stopped it for good.)
"""

from __future__ import annotations

import errno
import itertools
import multiprocessing
import os
import pickle
import resource
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path

from shardify.build.encode import make_samples
from shardify.build.job import Task
from shardify.build.settings import BuildSettings
from shardify.errors import ShardifyError, VideoError
from shardify.format.shard import Sample

MEMORY_BYTES = 4 << 30  # what one worker may take, beyond what its process has mapped when it starts
STANDSTILL = 10  # a video may take this many times its CPU deadline by the clock
AHEAD = 16  # videos per worker that may be finished before their turn
AHEAD_BYTES = 64 << 20  # per worker, of what is finished before its turn: at most DEPTH more per worker are under way
DEPTH = 2  # videos that a worker is given: the next one is there when the first is done
SLICE_SECONDS = 1.0  # of waiting
OUT_OF_MEMORY = 77  # exit code of a worker
NOT_THE_VIDEOS_FAULT = (errno.EMFILE, errno.ENFILE)  # these stop the build

Outcome = list[Sample] | str


def run_tasks(
    tasks: Iterable[Task],
    settings: BuildSettings,
    *,
    workers: int,
    timeout_seconds: float,
    make: Callable[[Task, BuildSettings], list[Sample]] = make_samples,
) -> Iterator[Outcome]:
    """For each task, in order: its samples, or the reason why there are none.

    `tasks` is read no further than workers can be kept busy. A video that kills its worker is tried once more
    in a fresh one: what is recorded depends on the video alone, not on what was decoded before it.
    timeout_seconds: CPU time that one video may take, so that a busy machine fails nothing.
    """
    _allow_files(16 + 3 * workers)
    pool = _Pool(iter(tasks), workers, (make, settings, timeout_seconds), timeout_seconds)
    done: dict[int, tuple[Outcome, int]] = {}
    held = 0  # bytes
    try:
        for number in itertools.count():
            while number not in done:
                if held < workers * AHEAD_BYTES:  # else the one that is waited for has been given out already
                    pool.feed(number + workers * AHEAD)
                if not pool.is_busy():
                    return
                for finished, outcome, size in pool.collect():
                    done[finished] = outcome, size
                    held += size
            outcome, size = done.pop(number)
            held -= size
            yield outcome
    finally:
        pool.stop()


class _Worker:
    """A process and its pipe; `queue` holds the tasks it was given, `stood_seconds` how long nothing has come."""

    def __init__(self, arguments: tuple) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["shardify.video.decode", "shardify.build.encode", "PIL.Image"])
        self.pipe, theirs = context.Pipe()
        resource_tracker.ensure_running()  # now, for starting it would lift the mask
        unmasked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited: Ctrl-C is for us alone
        try:
            with theirs:
                self.process = context.Process(target=_work, args=(theirs, *arguments), daemon=True)
                self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unmasked)
        self.queue: deque[tuple[int, Task]] = deque()
        self.has_begun = False
        self.stood_seconds = 0.0

    def give(self, number: int, task: Task) -> None:
        self.queue.append((number, task))
        try:
            self.pipe.send(task)
        except ConnectionError:
            return  # it is dead, which `collect` will see

    def end(self) -> int | None:
        """Kill it if it still runs; its exit code."""
        self.process.kill()
        self.process.join()
        code = self.process.exitcode
        self.process.close()
        self.pipe.close()
        return code


class _Pool:
    def __init__(self, tasks: Iterator[Task], count: int, arguments: tuple, timeout_seconds: float) -> None:
        self._tasks, self._count, self._arguments, self._timeout = tasks, count, arguments, timeout_seconds
        self._workers: list[_Worker] = []
        self._given = 0
        self._retried: set[int] = set()

    def is_busy(self) -> bool:
        return any(worker.queue for worker in self._workers)

    def feed(self, stop: int) -> None:
        """Give out tasks with numbers below `stop` as long as a worker can take one."""
        while self._given < stop and (worker := self._least_busy()) is not None:
            task = next(self._tasks, None)
            if task is None:
                return
            worker.give(self._given, task)
            self._given += 1

    def _least_busy(self) -> _Worker | None:
        worker = min(self._workers, key=lambda worker: len(worker.queue), default=None)
        if len(self._workers) < self._count and (worker is None or worker.queue):
            worker = _Worker(self._arguments)
            self._workers.append(worker)
        return worker if len(worker.queue) < DEPTH else None

    def collect(self) -> Iterator[tuple[int, Outcome, int]]:
        """Wait a while for something to happen; (task number, outcome, its bytes), perhaps none."""
        busy = {worker.pipe: worker for worker in self._workers if worker.queue}
        begin = time.monotonic()
        ready = wait(busy, SLICE_SECONDS)
        passed = min(time.monotonic() - begin, 2 * SLICE_SECONDS)  # more, and this process was suspended as well
        for worker in map(busy.__getitem__, ready):
            try:
                message = worker.pipe.recv_bytes()
            except (EOFError, OSError):
                yield from self._bury(worker)
                continue
            outcome = pickle.loads(message)
            if isinstance(outcome, Exception):
                raise outcome
            worker.stood_seconds = 0.0
            if outcome is None:
                worker.has_begun = True
                continue
            number, _ = worker.queue.popleft()
            yield number, outcome, len(message)
        patience = STANDSTILL * self._timeout
        for worker in busy.values():
            if worker.pipe in ready:
                continue
            worker.stood_seconds += passed
            if worker.stood_seconds > patience:
                reason = f"stood still for {patience:.0f} s; raise --timeout if the file is sound"
                yield from self._bury(worker, reason)

    def _bury(self, worker: _Worker, reason: str | None = None) -> Iterator[tuple[int, Outcome, int]]:
        """Put a new worker in a dead one's place."""
        if reason is None:
            worker.process.join()  # its pipe is closed: it has ended or is about to
        self._workers.remove(worker)  # first: what fails below must not meet it again
        code = worker.end()
        if not worker.has_begun:
            raise ShardifyError(
                f"a decoding process could not start (exit code {code}); a script of your own that builds needs "
                "`if __name__ == '__main__':` around it"
            )
        number, task = worker.queue.popleft()
        fresh = _Worker(self._arguments)
        self._workers.append(fresh)
        if reason is None and code != -signal.SIGXCPU and number not in self._retried:
            self._retried.add(number)
            fresh.give(number, task)
        else:
            yield number, reason or _reason(code, self._timeout), 0
        for later in worker.queue:
            fresh.give(*later)

    def stop(self) -> None:
        for worker in self._workers:
            worker.end()


def _allow_files(count: int) -> None:
    """Raise the process's own limit of open files if need be, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise ShardifyError(f"Too many open files: {count} are needed, {hard} allowed; pass fewer --workers")
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def _reason(code: int | None, timeout_seconds: float) -> str:
    if code == OUT_OF_MEMORY:
        return f"needs more than {MEMORY_BYTES >> 30} GiB of memory"
    if code == -signal.SIGXCPU:
        return f"took more than {timeout_seconds:g} s of CPU time; raise --timeout if the file is sound"
    known = code is not None and -code in set(signal.Signals)
    return f"the decoder crashed on it ({signal.Signals(-code).name if known else f'exit code {code}'})"


def _work(pipe: Connection, make: Callable, settings: BuildSettings, timeout_seconds: float) -> None:
    """A worker's whole life: tasks in, outcomes out, until the pipe is closed."""
    threading.Thread(target=_end_with_parent, args=(pipe.fileno(),), daemon=True).start()
    _limit(resource.RLIMIT_CORE, 0)
    # CUDA reserves address space by the hundred GB, so there only memory that can be written counts
    if settings.decoder == "cuda":
        _limit(resource.RLIMIT_DATA, MEMORY_BYTES)
    else:
        _limit(resource.RLIMIT_AS, _mapped_bytes() + MEMORY_BYTES)
    try:
        pipe.send(None)  # it has begun
        while True:
            task = pipe.recv()
            _limit(resource.RLIMIT_CPU, int(sum(os.times()[:2]) + timeout_seconds) + 1)  # SIGXCPU ends the process
            pipe.send(_outcome(make, task, settings))
    except (EOFError, ConnectionError):
        return  # the parent has gone
    except MemoryError:
        os._exit(OUT_OF_MEMORY)


def _end_with_parent(pipe: int) -> None:
    """Killed, the parent cannot end a worker that stands still; the resumed build must not find it there."""
    hangup = select.poll()
    hangup.register(pipe, 0)  # nothing but the end of the other side
    hangup.poll()
    os._exit(0)


def _outcome(make: Callable, task: Task, settings: BuildSettings) -> Outcome | OSError | ShardifyError:
    try:
        return make(task, settings)
    except Exception as error:
        causes = [error]
        while causes[-1].__cause__ is not None:
            causes.append(causes[-1].__cause__)
        for cause in causes:
            if isinstance(cause, MemoryError):
                raise MemoryError from error
            if isinstance(cause, OSError) and cause.errno in NOT_THE_VIDEOS_FAULT:
                return OSError(cause.errno, cause.strerror)
            if isinstance(cause, ImportError):
                return ShardifyError(f"a decoding process cannot import what it needs ({cause})")
        return str(error) if isinstance(error, VideoError) else f"cannot be packed ({type(error).__name__}: {error})"


def _mapped_bytes() -> int:
    """Address space of this process: several GiB where the calling script imports torch with its CUDA libraries."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
