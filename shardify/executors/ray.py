"""Units of work as tasks of a Ray cluster, which starts them again where their process or machine is lost."""

from __future__ import annotations

import logging
import os
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
ANSWER_SECONDS = 10.0  # that a head may take
LOST_SECONDS = 25.0  # without an answer; Ray itself ends the program after a minute, in its own words
NO_IMPORT = "failed to import on the worker"  # Ray's words
INSTALL = "pip install 'shardify[ray]' on every machine of the cluster"


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
        self, work: Callable[[Unit], Result], units: Iterable[Unit]
    ) -> Iterator[tuple[Unit, Result | str]]:
        """As the contract says. Raises ShardifyError also where no cluster answers, or has no room for a unit.

        Without its head, in whose calls this thread may hang, the program ends with one line and ShardifyError's code.
        """
        self._connect()
        over = threading.Event()
        threading.Thread(target=_end_without_head, args=(self._head(), over), daemon=True).start()
        try:
            yield from self._carry_out(work, iter(units))
        finally:
            over.set()
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

    def _carry_out(self, work: Callable, units: Iterator) -> Iterator[tuple[Any, Any]]:
        task = self._ray.remote(num_cpus=self._cpus, max_retries=RETRIES)(_call)
        shared_work = self._ray.put(work)
        running: dict[Any, tuple[Any, int]] = {}  # the unit, and how often it has been tried
        coming, had_room = next(units, None), time.monotonic()
        standstill = _Standstill()
        while running or coming is not None:
            room = self._room(bool(running))
            while coming is not None and len(running) < room:
                running[task.remote(shared_work, coming)] = coming, 1
                coming = next(units, None)
            if room:
                had_room = time.monotonic()
            elif time.monotonic() - had_room > PATIENCE_SECONDS:
                raise ShardifyError(
                    f"the Ray cluster has had no machine with {self._cpus} free CPUs for {PATIENCE_SECONDS:.0f} s; see "
                    f"`ray status`, or pass fewer --workers"
                )
            if running:
                standstill.note(self._ray.available_resources().get("CPU", 0))
                for reference in self._ray.wait(list(running), timeout=SLICE_SECONDS)[0]:
                    (unit, tries), outcome = running.pop(reference), self._outcome(reference)
                    standstill = _Standstill()
                    if not isinstance(outcome, _Failure):
                        yield unit, outcome
                    elif outcome.may_pass and tries <= RETRIES:
                        running[task.remote(shared_work, unit)] = unit, tries + 1
                    else:
                        yield unit, outcome.reason
            else:
                time.sleep(SLICE_SECONDS)

    def _room(self, is_busy: bool) -> int:
        """How many units may be under way or wait for their turn; 0 where nothing can run."""
        if not is_busy and self._ray.available_resources().get("CPU", 0) < self._cpus:
            return 0  # the work of others has them
        alive = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return 2 * sum(int(resources.get("CPU", 0) // self._cpus) for resources in alive)

    def _outcome(self, reference: Any) -> Any:
        """What a task has returned, or its failure; raises what is no failure of its unit."""
        try:
            outcome = self._ray.get(reference)
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

    def note(self, free_cpus: float) -> None:
        seconds = time.monotonic() - self._begun
        if seconds > self._said_at:
            self._said_at *= 2
            logger.info(
                f"no task of this build was finished for {duration(seconds)}; {free_cpus:.0f} CPUs of the cluster are "
                f"free: where the work of others has the rest (`ray status`), this build waits for it"
            )


def _end_without_head(address: tuple[str, int], over: threading.Event) -> None:
    """End the program once its cluster's head has not answered for long, unless `over` comes first."""
    answered = time.monotonic()
    while not over.wait(ANSWER_SECONDS):
        try:
            socket.create_connection(address, ANSWER_SECONDS).close()
            answered = time.monotonic()
        except OSError as error:
            if time.monotonic() - answered > LOST_SECONDS:
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
    try:
        return work(unit)
    except OSError as error:
        return _Failure(f"{socket.gethostname()}: {error}", True)
    except (ShardifyError, ImportError) as error:
        return error
    except Exception as error:
        return _Failure(f"{socket.gethostname()}: {type(error).__name__}: {error}", False)
