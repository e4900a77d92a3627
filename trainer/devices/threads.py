"""The time that torch's threads on a CPU spin before they sleep, which must be set before torch is imported."""

from __future__ import annotations

import os

# libgomp's own 300,000 turns are milliseconds: beside other work a thread spins its time slice away while what it
# waits for has no core. A tenth of them bridges the gaps within a step; fewer do not (docs/lab-notes.md).
SPINS = "30000"


def bound_spinning() -> None:
    """Limit how long torch's threads spin: in our own programs at their start, never on import.

    libgomp, which torch's wheels for Linux bring along, reads it once, when torch is imported. What the user has set
    stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
