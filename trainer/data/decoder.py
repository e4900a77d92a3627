"""The decoder of single clips into buffers: a damaged clip is an error, or is skipped and counted."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from shardify.format.members.frames import DAMAGE, decode_into
from trainer.data.shard_set import ShardSet
from trainer.errors import FormatError


class ClipDecoder:
    """Reads and decodes the clips of one split, for many threads at once.

    damaged: by number, what was wrong with it when it was last skipped. failing: those of them whose newest reading
    failed. replace: whether the next sound clip of the split stands in for a damaged one; in evaluation nothing may.
    """

    def __init__(self, shards: ShardSet, numbers: np.ndarray, on_error: str, max_errors: float, replace: bool) -> None:
        self.damaged: dict[int, str] = {}
        self.failing: dict[int, str] = {}  # what counts: over a long run, errors that pass would add up
        self._shards, self._numbers, self._replace = shards, numbers, replace
        self._on_error, self._max_errors = on_error, max_errors
        self._checked = np.zeros(len(shards.samples), bool)  # CRCs are checked once

    def read(self, number: int) -> bytes:
        payload = self._shards.read(number, check=not self._checked[number])
        self._checked[number] = True
        return payload

    def decode(self, number: int, payload: bytes | Exception, out: Tensor) -> int | None:
        """Fill `out` with the clip; the number of the clip that is in it, None where it is left as it was.

        Another number than was asked for is of the clip that stands in, this time alone: the next reading may succeed.
        payload: what `read` returned or raised. Raises FormatError.
        """
        try:
            if isinstance(payload, Exception):
                raise payload
            decode_into(payload, self._shards.codec, out)
            self.failing.pop(number, None)
            return number
        except DAMAGE as error:
            self._note(number, error)
        return self._decode_next(number, out) if self._replace else None

    def _decode_next(self, number: int, out: Tensor) -> int:
        place, count = int(np.flatnonzero(self._numbers == number)[0]), len(self._numbers)
        for i in range(1, count):
            other = int(self._numbers[(place + i) % count])
            try:
                decode_into(self._shards.read(other), self._shards.codec, out)
                self.failing.pop(other, None)
                return other
            except DAMAGE as error:
                self._note(other, error)
        raise FormatError(f"all {count} clips are damaged, the first: {self.damaged[number]}")

    def _note(self, number: int, error: Exception) -> None:
        message = str(error)
        if not isinstance(error, FormatError):
            message = f"{self._shards.where(number)}: cannot be decoded ({error}); build or copy the folder again"
        if self._on_error != "skip":
            raise FormatError(message) from error
        self.damaged[number] = self.failing[number] = message
        self.check_share(len(self.failing), message)

    def check_share(self, count: int, last: str) -> None:
        """Raises FormatError where so many damaged clips are more than may be skipped."""
        if count > self._max_errors * len(self._numbers):
            raise FormatError(f"{count} of {len(self._numbers)} clips are damaged, the last: {last}")
