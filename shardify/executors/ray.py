"""Units of work as tasks of a Ray cluster, which starts them again where their process or machine is lost."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

from shardify.errors import ShardifyError, UsageError
from shardify.executors.base import Cluster, Result, Unit
from shardify.terminal import warn
from shardify.text import duration

logger = logging.getLogger(__name__)

RETRIES = 3  # of a unit
PATIENCE_SECONDS = 60.0  # without a machine for a unit
SLICE_SECONDS = 1.0  # of waiting
CHECK_SECONDS = 10.0  # from one look at the head to the next
ANSWER_SECONDS = 5.0  # that a head may take
CHECKS = 3  # in a row without an answer; Ray itself ends the program after a minute, in its own words
NO_IMPORT = "failed to import on the worker"  # Ray's words
INSTALL = "pip install 'shardify[ray]' on every machine of the cluster"
_CANCELLED = object()  # the outcome of a task that had not begun


class _Failure(NamedTuple):
    reason: str
    may_pass: bool  # so that the unit is tried again; after a lost process Ray has done so itself


class RayCluster(Cluster):
    """The Ray cluster whose head answers at `address`; `auto`: the one that this machine is part of.

    A unit takes `cpus` of one machine. At most twice as many units as there is room for are handed out at a time, so
    that this process stays small. Raises UsageError without Ray.
    """

    def __init__(self, address: str, cpus: int) -> None:
        self._ray, self._address, self._cpus = _import_ray(), address, cpus
        self._seen: set[str] = set()  # ids of machines

    def as_completed(
        self, work: Callable[[Unit], Result], units: Iterable[Unit], stops: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[Unit, Result | str]]:
        """As the contract says. Raises ShardifyError also where no cluster answers, or has no room for a unit.

        Without its head, in whose calls this thread may hang, the program ends with one line and ShardifyError's code;
        while it connects, Ray alone bounds how long that may take.
        """
        self._connect()
        with _watched(self._head()):
            try:
                yield from self._carry_out(work, iter(units), stops)
            finally:
                self._ray.shutdown()  # tasks end with the connection

    def machines(self) -> tuple[int, int]:
        """As the contract says."""
        alive = {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}
        self._seen |= alive
        return len(alive), len(self._seen - alive)

    def _connect(self) -> None:
        address = os.environ.get("RAY_ADDRESS", "auto") if self._address == "auto" else self._address
        try:
            if address != "auto":  # Ray itself asks for minutes
                host, _, port = address.rpartition(":")
                socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
            self._ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (OSError, RuntimeError, ValueError) as error:
            raise ShardifyError(
                f"no Ray cluster answers at {address} ({' '.join(str(error).split())}); run this command on one "
                f"of its machines, which `ray start` makes them, or pass --on ray:ADDRESS"
            ) from error

    def _head(self) -> tuple[str, int]:
        """Its host and port."""
        host, _, port = self._ray.get_runtime_context().gcs_address.rpartition(":")
        return host, int(port)

    def _carry_out(self, work: Callable, units: Iterator, stops: Callable[[], bool]) -> Iterator[tuple[Any, Any]]:
        task = self._ray.remote(num_cpus=self._cpus, max_retries=RETRIES)(_call)
        shared_work = self._ray.put(work)
        running: dict[Any, tuple[Any, int]] = {}  # the unit, and how often it has been tried
        coming, had_room, is_stopping = next(units, None), time.monotonic(), False
        standstill = _Standstill()
        while running or coming is not None:
            if stops() and not is_stopping:
                coming, units, is_stopping = None, iter(()), True
                for reference in running:
                    self._ray.cancel(reference)  # `_call` sees to it that what has begun goes on
            room = self._room(bool(running))
            while coming is not None and len(running) < room:
                running[task.remote(shared_work, coming)] = coming, 1
                coming = next(units, None)
            if room:
                had_room = time.monotonic()
            elif time.monotonic() - had_room > PATIENCE_SECONDS:
                raise self._no_room()
            if running:
                standstill.note(self._free_cpus)
                for reference in self._ray.wait(list(running), timeout=SLICE_SECONDS)[0]:
                    (unit, tries), outcome = running.pop(reference), self._outcome(reference)
                    standstill = _Standstill()
                    if not isinstance(outcome, _Failure):
                        if outcome is not _CANCELLED:
                            yield unit, outcome
                    elif outcome.may_pass and tries <= RETRIES and not is_stopping:
                        running[task.remote(shared_work, unit)] = unit, tries + 1
                    else:
                        yield unit, outcome.reason
            else:
                time.sleep(SLICE_SECONDS)

    def _no_room(self) -> ShardifyError:
        return ShardifyError(
            f"the Ray cluster has had no machine with {self._cpus} free CPUs for {PATIENCE_SECONDS:.0f} s; see "
            f"`ray status`, or pass fewer --workers"
        )

    def _room(self, is_busy: bool) -> int:
        """How many units may be under way or wait for their turn; 0 where nothing can run."""
        if not is_busy and self._free_cpus() < self._cpus:
            return 0  # the work of others has them
        alive = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return 2 * sum(int(resources.get("CPU", 0) // self._cpus) for resources in alive)

    def _free_cpus(self) -> float:
        return self._ray.available_resources().get("CPU", 0)

    def _outcome(self, reference: Any) -> Any:
        """What a task has returned, or its failure; raises what is no failure of its unit."""
        try:
            outcome = self._ray.get(reference)
        except self._ray.exceptions.TaskCancelledError:
            return _CANCELLED
        except self._ray.exceptions.RayTaskError as error:
            outcome = error.cause
        except self._ray.exceptions.RayError as error:
            return _Failure(str(error).partition("\n")[0].partition(". ")[0], False)
        if isinstance(outcome, ShardifyError):
            raise outcome
        if isinstance(outcome, ImportError) or NO_IMPORT in str(outcome):
            reason = str(outcome).strip().splitlines()[-1]  # Ray's has the traceback before it
            raise ShardifyError(f"a machine of the cluster cannot import what it needs ({reason}); {INSTALL}")
        if isinstance(outcome, Exception):
            return _Failure(f"{type(outcome).__name__}: {outcome}", False)
        return outcome


class _Standstill:
    """The time in which no unit was done, of which a line tells after a minute, and when that has doubled."""

    def __init__(self) -> None:
        self._begun, self._said_at = time.monotonic(), PATIENCE_SECONDS

    def note(self, free_cpus: Callable[[], float]) -> None:
        seconds = time.monotonic() - self._begun
        if seconds > self._said_at:
            self._said_at *= 2
            logger.info(
                f"no task of this build was finished for {duration(seconds)}; {free_cpus():.0f} CPUs of the cluster "
                f"are free: where the work of others has the rest (`ray status`), this build waits for it"
            )


@contextlib.contextmanager
def _watched(head: tuple[str, int]) -> Iterator[None]:
    """While entered, the program ends once a cluster's head is lost."""
    over = threading.Event()
    threading.Thread(target=_end_without_head, args=(head, over), daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _end_without_head(address: tuple[str, int], over: threading.Event) -> None:
    """End the program once its cluster's head has not answered several times in a row, unless `over` comes first.

    Looks are counted, not seconds, for this process may have been stopped meanwhile.
    """
    missed = 0
    while not over.wait(CHECK_SECONDS):
        try:
            socket.create_connection(address, ANSWER_SECONDS).close()
            missed = 0
        except OSError as error:
            missed += 1
            if missed == CHECKS:
                warn(
                    f"error: the head of the Ray cluster at {address[0]}:{address[1]} is lost ({error}); what is "
                    f"finished is kept: start it again, and give the same command again"
                )
                os._exit(ShardifyError.exit_code)


def _import_ray() -> ModuleType:
    try:
        import ray
    except ImportError as error:
        raise UsageError(f"--on ray needs Ray ({error}); {INSTALL}") from error
    return ray


def _call(work: Callable[[Unit], Result], unit: Unit) -> Result | Exception | _Failure:
    """In a task; what is raised is returned, for Ray shows tracebacks of what it catches itself."""
    signal.signal(signal.SIGINT, lambda *_: None)  # by which Ray ends a task that is cancelled after it has begun
    try:
        return work(unit)
    except OSError as error:
        return _Failure(f"{socket.gethostname()}: {error}", True)
    except (ShardifyError, ImportError) as error:
        return error
    except Exception as error:
        return _Failure(f"{socket.gethostname()}: {type(error).__name__}: {error}", False)
