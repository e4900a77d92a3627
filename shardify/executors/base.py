"""The contract of an executor, and the limits that it keeps each unit of work to."""

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
    """Whatever carries out units of work: processes of this machine, or other machines."""

    def map(self, work: Callable[[Unit], Result], units: Iterable[Unit]) -> Iterator[Result | str]:
        """For each unit, in order: what `work` returns for it, which is never a str, or a str: why there is nothing.

        `work` and units are pickled. A unit may be carried out more than once, so it must be idempotent. What it
        raises is its failure, and the message of a ShardifyError the reason; a broken installation and a lack of
        open files are nobody's failure and are raised here. `units` is read no further than workers can be kept busy.
        """
