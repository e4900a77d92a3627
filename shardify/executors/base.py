"""The contracts of executors, and the limits that they keep each unit of work to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

MEMORY_BYTES = 4 << 30

Unit = TypeVar("Unit")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Limits:
    """What one unit of work may take of a machine."""

    cpu_seconds: float  # of the processor, so that a busy machine fails nothing
    memory_bytes: int = MEMORY_BYTES  # beyond what a worker has mapped when it starts
    counts_reserved: bool = True  # whether address space counts that is only reserved, as CUDA does by the hundred GB


class Executor(Protocol):
    """Whatever carries out many small units of work: processes of this machine."""

    def map(
        self,
        work: Callable[[Unit], Result],
        units: Iterable[Unit | None],
        release: Callable[[Unit], None] = lambda unit: None,
    ) -> Iterator[Result | str]:
        """For each unit, in order: what `work` returns for it, which is never a str, or a str: why there is nothing.

        `work` and units are pickled. A unit may be carried out more than once, so it must be idempotent. What it
        raises is its failure, and the message of a ShardifyError the reason; a broken installation and a lack of
        open files are nobody's failure and are raised here. `units` is read no further than workers can be kept busy;
        it may give None where the next one is not ready, while another one is under way. `release` is called with
        each unit as soon as it is done, before the turn of its outcome.
        """


class Cluster(Protocol):
    """Whatever carries out large units of work on several machines, any of which may be lost."""

    def as_completed(
        self, work: Callable[[Unit], Result], units: Iterable[Unit], stops: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[Unit, Result | str]]:
        """Each unit as it is done, with what `work` returns for it, never a str, or with a str: why there is nothing.

        As with `Executor.map`, but a ShardifyError that `work` raises is no unit's failure: it is raised here, and
        ends the others. An OSError, and the loss of a process or a machine, fail a unit only where they come again
        and again. Results should be small. Once `stops` says so, what has begun is carried out to its end, and the
        other units are left out. Closed early, it ends what is under way.
        """

    def machines(self) -> tuple[int, int]:
        """How many there are, and how many have been lost; while units are carried out."""
