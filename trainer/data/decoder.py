"""The decoder of single clips into buffers: a damaged clip is an error, or is skipped and counted."""

from __future__ import annotations

import numpy as np

from shardify.format.members import Member
from shardify.format.members.base import DAMAGE
from trainer.data.arguments import LoaderOptions
from trainer.data.batches import Values
from trainer.errors import FormatError
from trainer.shards.payloads import Payloads
from trainer.shards.shard_set import ShardSet


class ClipDecoder:
    """Reads and decodes the members of the clips of one split, for many threads at once.

    A clip of which one member is damaged is a damaged clip. damaged: by number, what was wrong with it when it was last
    skipped. failing: those of them whose newest reading failed. replace: whether the next sound clip of the split
    stands in for a damaged one; in evaluation nothing may.
    """

    def __init__(
        self, shards: ShardSet, members: dict[str, Member], numbers: np.ndarray, options: LoaderOptions, replace: bool
    ) -> None:
        self.damaged: dict[int, str] = {}
        self.failing: dict[int, str] = {}  # what counts: over a long run, errors that pass would add up
        self._shards, self._members, self._numbers, self._replace = shards, members, numbers, replace
        self._on_error, self._max_errors = options.on_error, options.max_errors
        self._checked = np.zeros(len(shards.samples), np.int64)  # of `ShardSet.read`

    def read(self, number: int) -> Payloads:
        return self._shards.read(number, self._members, self._checked)

    def decode(self, number: int, payloads: Payloads | Exception, out: Values) -> int | None:
        """Fill `out` with the clip; the number of the clip that is in it, None where there is no sound one in it.

        Another number than was asked for is of the clip that stands in, this time alone: the next reading may succeed.
        payloads: what `read` returned or raised. out: of one clip. Raises FormatError.
        """
        try:
            if isinstance(payloads, Exception):
                raise payloads
            return self._fill(number, payloads, out)
        except DAMAGE as error:
            self._note(number, error)
        return self._decode_next(number, out) if self._replace else None

    def _decode_next(self, number: int, out: Values) -> int:
        place, count = int(np.flatnonzero(self._numbers == number)[0]), len(self._numbers)
        for i in range(1, count):
            other = int(self._numbers[(place + i) % count])
            try:
                return self._fill(other, self._shards.read(other, self._members), out)
            except DAMAGE as error:
                self._note(other, error)
        raise FormatError(f"all {count} clips are damaged, the first: {self.damaged[number]}")

    def _fill(self, number: int, payloads: Payloads, out: Values) -> int:
        for (name, member), payload in zip(self._members.items(), payloads, strict=True):
            member.decode_into(payload, out[name])
        self.failing.pop(number, None)
        return number

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
