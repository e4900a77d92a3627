"""A retry in smaller parts for work that has run out of memory."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from shardify.machine import is_out_of_memory

logger = logging.getLogger(__name__)

T = TypeVar("T")


def in_parts(run: Callable[[int], T], parts: int, most: int) -> T:
    """The result of run(parts); where memory runs out, of run with twice as many parts, up to `most`.

    Raises what `run` raises there.
    """
    while True:
        try:
            return run(parts)
        except RuntimeError as error:
            if not is_out_of_memory(error) or parts >= most:
                raise
        parts = min(2 * parts, most)  # here, where the error no longer holds the tensors
        logger.warning(f"out of memory; again, in {parts} parts")
