"""Isolated worker processes: a crash, an endless loop or a huge allocation costs one unit of work, not the rest.

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
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType

from shardify.errors import ShardifyError
from shardify.executors.base import Executor, Limits, Result, Unit

STANDSTILL = 10  # a unit may take this many times its CPU seconds by the clock
AHEAD = 16  # units per worker that may be finished before their turn
AHEAD_BYTES = 64 << 20  # per worker, of what is finished before its turn: at most DEPTH more per worker are under way
DEPTH = 2  # units that a worker is given: the next one is there when the first is done
SLICE_SECONDS = 1.0  # of waiting
NOT_READY_SECONDS = 0.02  # the same, for units that are not ready
OUT_OF_MEMORY = 77  # exit code of a worker
_NO_MORE = object()
NOT_THE_UNITS_FAULT = (errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True)
class LocalExecutor(Executor):
    """Processes of this machine, forked from a server that has imported the modules of `preload`."""

    workers: int
    limits: Limits
    preload: tuple[str, ...] = ()

    def map(
        self,
        work: Callable[[Unit], Result],
        units: Iterable[Unit | None],
        release: Callable[[Unit], None] = lambda unit: None,
    ) -> Iterator[Result | str]:
        """As the contract says.

        A unit that kills its worker is tried once more in a fresh one: what comes of it depends on the unit alone,
        not on what was done before it.
        """
        _allow_files(16 + 3 * self.workers)
        pool = _Pool(self, work, iter(units), release)
        done: dict[int, tuple[Result | str, int]] = {}
        held = 0  # bytes
        try:
            for number in itertools.count():
                while number not in done:
                    if held < self.workers * AHEAD_BYTES:  # else the one that is waited for has been given out already
                        pool.feed(number + self.workers * AHEAD)
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
    """A process and its pipe; `queue` holds the units it was given, `stood_seconds` how long nothing has come."""

    def __init__(self, executor: LocalExecutor, work: Callable) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(executor.preload))
        self.pipe, theirs = context.Pipe()
        resource_tracker.ensure_running()  # now, for starting it would lift the mask
        unmasked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited: Ctrl-C is for us alone
        try:
            with theirs:
                self.process = context.Process(target=_work, args=(theirs, work, executor.limits), daemon=True)
                with _without_main_module():
                    self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unmasked)
        self.queue: deque[tuple[int, Unit]] = deque()
        self.has_begun = False
        self.stood_seconds = 0.0

    def give(self, number: int, unit: Unit) -> None:
        self.queue.append((number, unit))
        try:
            self.pipe.send(unit)
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


@contextmanager
def _without_main_module() -> Iterator[None]:
    """Hide the program's main module, which a process that is started would import: a script would run once more."""
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class _Pool:
    def __init__(self, executor: LocalExecutor, work: Callable, units: Iterator, release: Callable) -> None:
        self._executor, self._work, self._units, self._release = executor, work, units, release
        self._slice_seconds = SLICE_SECONDS
        self._workers: list[_Worker] = []
        self._given = 0
        self._retried: set[int] = set()

    def is_busy(self) -> bool:
        return any(worker.queue for worker in self._workers)

    def feed(self, stop: int) -> None:
        """Give out units with numbers below `stop` as long as a worker can take one."""
        while self._given < stop and (worker := self._least_busy()) is not None:
            unit = next(self._units, _NO_MORE)
            self._slice_seconds = SLICE_SECONDS if unit is not None else NOT_READY_SECONDS
            if unit is None or unit is _NO_MORE:
                return
            worker.give(self._given, unit)
            self._given += 1

    def _least_busy(self) -> _Worker | None:
        worker = min(self._workers, key=lambda worker: len(worker.queue), default=None)
        if len(self._workers) < self._executor.workers and (worker is None or worker.queue):
            worker = _Worker(self._executor, self._work)
            self._workers.append(worker)
        return worker if len(worker.queue) < DEPTH else None

    def collect(self) -> Iterator[tuple[int, Result | str, int]]:
        """Wait a while for something to happen; (unit number, outcome, its bytes), perhaps none."""
        busy = {worker.pipe: worker for worker in self._workers if worker.queue}
        begin = time.monotonic()
        ready = wait(busy, self._slice_seconds)
        passed = min(time.monotonic() - begin, 2 * SLICE_SECONDS)  # more, and this process was suspended as well
        for worker in map(busy.__getitem__, ready):
            try:
                message = worker.pipe.recv_bytes()
            except (EOFError, OSError):
                yield from self._replace(worker)
                continue
            outcome = pickle.loads(message)
            if isinstance(outcome, Exception):
                raise outcome
            worker.stood_seconds = 0.0
            if not worker.has_begun:  # its first message says so
                worker.has_begun = True
                continue
            number, unit = worker.queue.popleft()
            self._release(unit)
            yield number, outcome, len(message)
        patience = STANDSTILL * self._executor.limits.cpu_seconds
        for worker in busy.values():
            if worker.pipe in ready:
                continue
            worker.stood_seconds += passed
            if worker.stood_seconds > patience:
                reason = f"stood still for {patience:.0f} s; raise --timeout if the file is sound"
                yield from self._replace(worker, reason)

    def _replace(self, worker: _Worker, reason: str | None = None) -> Iterator[tuple[int, Result | str, int]]:
        """Put a new worker in a dead one's place."""
        if reason is None:
            worker.process.join()  # its pipe is closed: it has ended or is about to
        self._workers.remove(worker)  # first: what fails below must not meet it again
        code = worker.end()
        if not worker.has_begun:
            raise ShardifyError(f"a worker could not start (exit code {code})")
        number, unit = worker.queue.popleft()
        fresh = _Worker(self._executor, self._work)
        self._workers.append(fresh)
        if reason is None and code != -signal.SIGXCPU and number not in self._retried:
            self._retried.add(number)
            fresh.give(number, unit)
        else:
            self._release(unit)
            yield number, reason or _reason(code, self._executor.limits), 0
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


def _reason(code: int | None, limits: Limits) -> str:
    if code == OUT_OF_MEMORY:
        return f"needs more than {limits.memory_bytes >> 30} GiB of memory"
    if code == -signal.SIGXCPU:
        return f"took more than {limits.cpu_seconds:g} s of CPU time; raise --timeout if the file is sound"
    known = code is not None and -code in set(signal.Signals)
    return f"its process crashed ({signal.Signals(-code).name if known else f'exit code {code}'})"


def _work(pipe: Connection, work: Callable, limits: Limits) -> None:
    """A worker's whole life: units in, outcomes out, until the pipe is closed."""
    threading.Thread(target=_end_with_parent, args=(pipe.fileno(),), daemon=True).start()
    _limit(resource.RLIMIT_CORE, 0)
    if limits.counts_reserved:
        _limit(resource.RLIMIT_AS, _mapped_bytes() + limits.memory_bytes)
    else:
        _limit(resource.RLIMIT_DATA, limits.memory_bytes)
    try:
        pipe.send(None)  # it has begun
        while True:
            unit = pipe.recv()
            _limit(resource.RLIMIT_CPU, int(sum(os.times()[:2]) + limits.cpu_seconds) + 1)  # SIGXCPU ends the process
            pipe.send(_outcome(work, unit))
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


def _outcome(work: Callable[[Unit], Result], unit: Unit) -> Result | str | OSError | ShardifyError:
    try:
        return work(unit)
    except Exception as error:
        causes = [error]
        while causes[-1].__cause__ is not None:
            causes.append(causes[-1].__cause__)
        for cause in causes:
            if isinstance(cause, MemoryError):
                raise MemoryError from error
            if isinstance(cause, OSError) and cause.errno in NOT_THE_UNITS_FAULT:
                return OSError(cause.errno, cause.strerror)
            if isinstance(cause, ImportError):
                return ShardifyError(f"a worker cannot import what it needs ({cause})")
        return str(error) if isinstance(error, ShardifyError) else f"cannot be packed ({type(error).__name__}: {error})"


def _mapped_bytes() -> int:
    """Address space of this process: several GiB where the calling script imports torch with its CUDA libraries."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
