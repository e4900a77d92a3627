"""A piece of a video: the part between two moments, which a manifest's `start` and `end` name."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import NamedTuple

from shardify.errors import VideoError

MICROSECONDS = 1_000_000  # in a second
MAX_SECONDS = 360_000  # 100 hours, more than any video that is decoded
PAST_THE_END = 1 * MICROSECONDS  # allowed, for many lists have whole seconds
_IN_NAME = re.compile(r"(.+)#t=(\d+(?:\.\d{1,6})?),(\d+(?:\.\d{1,6})?)", re.DOTALL)


class Piece(NamedTuple):
    """The frames that are first shown in [start, end), in microseconds after the video's first frame.

    As a text it is the fragment of W3C's Media Fragments URI 1.0, `#t=1.5,3` (seconds): a piece's name is that of its
    video with this behind it.
    """

    start: int
    end: int

    @classmethod
    def of(cls, start: str, end: str) -> Piece:
        """From seconds as people write them. Raises ValueError, which says what is wrong."""
        piece = cls(_microseconds("start", start), _microseconds("end", end))
        if piece.end <= piece.start:
            raise ValueError(f"end is {end} and start is {start}; the end must come after the start")
        return piece

    def __str__(self) -> str:
        return f"#t={_seconds(self.start)},{_seconds(self.end)}"

    def cut(self, times: Sequence[int], last_duration: int, time_base: Fraction) -> tuple[range, int]:
        """Numbers of its frames among those shown at `times` (sorted, ticks of `time_base`), and its last one's ticks.

        Raises VideoError where there is none, or where the video ends well before the piece does.
        """
        first, tick = times[0], time_base * MICROSECONDS
        ending = round((times[-1] - first + last_duration) * tick)
        if self.end > ending + PAST_THE_END:
            raise VideoError(f"its piece ends at {_seconds(self.end)} s, the video at {_seconds(ending)} s")
        start, stop = (bisect_left(times, moment, key=lambda time: round((time - first) * tick)) for moment in self)
        if start == stop:
            raise VideoError(f"no frame begins in its piece, {_seconds(self.start)} to {_seconds(self.end)} s")
        until = times[stop] if stop < len(times) else times[-1] + last_duration
        return range(start, stop), max(1, min(until, first + int(self.end / tick)) - times[stop - 1])


def split_piece(name: str) -> tuple[str, Piece | None]:
    """The name of a video, and the piece that the name ends in; None where it is the whole video."""
    match = _IN_NAME.fullmatch(name) if "#t=" in name else None
    if match is None:
        return name, None
    return match[1], Piece(*(int(Decimal(seconds) * MICROSECONDS) for seconds in match.groups()[1:]))


def _microseconds(column: str, text: str) -> int:
    try:
        seconds = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"{column} is {text}; it must be seconds from the video's first frame") from error
    if not (seconds.is_finite() and 0 <= seconds <= MAX_SECONDS):
        raise ValueError(f"{column} is {text}; it must be 0 to {MAX_SECONDS} seconds")
    return round(seconds * MICROSECONDS)


def _seconds(microseconds: int) -> str:
    whole, rest = divmod(microseconds, MICROSECONDS)
    return f"{whole}.{rest:06d}".rstrip("0").rstrip(".")
