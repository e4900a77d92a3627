"""The plan of a cache of shards: which one to download next, and which ones to remove for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

FAR = np.iinfo(np.int64).max  # of what is not read again, as far as is known


@dataclass(frozen=True)
class Uses:
    """What one loader reads: the shard of each clip in its order, of the pass that is under way and of the next one."""

    shards: np.ndarray  # int64 (N,), numbers of shards; -1: of one that no cache holds
    length: int  # clips of the pass that is under way
    position: Callable[[], int]  # how many clips of `shards` it has asked for


@dataclass(frozen=True)
class Held:
    """What a cache may hold, and holds, by the shards' numbers."""

    sizes: np.ndarray  # int64 (S,), bytes
    clips: np.ndarray  # int64 (S,), in each
    here: np.ndarray  # bool (S,)
    given_up: np.ndarray  # bool (S,), those that could not be downloaded


def next_uses(passes: Sequence[Uses], count: int) -> np.ndarray:
    """How many clips are read before each of `count` shards is read next, int64 (count,); FAR where none is known.

    passes: one after the other.
    """
    found = np.full(count, FAR)
    for shards, times in _to_come(passes):
        own = np.full(count + 1, FAR)  # the last one is that of -1
        own[shards[::-1]] = times[::-1]  # the first use of each is set last
        found = np.minimum(found, own[:count])
    return found


def choose(passes: Sequence[Uses], held: Held, room: int) -> tuple[int, list[int]] | None:
    """The shard to download now, that is needed first, and those to remove for it; None where nothing is to be done.

    room: bytes that are free. What is needed last goes first, and only where half of the new shard's clips are read
    before it: else the two would come and go.
    """
    when = next_uses(passes, len(held.sizes))
    most = room + held.sizes[held.here].sum()
    wanted = np.where(held.here | held.given_up | (held.sizes > most), FAR, when)
    new = int(wanted.argmin())
    if wanted[new] == FAR:
        return None
    removed = []
    for old in sorted(np.flatnonzero(held.here).tolist(), key=when.__getitem__, reverse=True):
        if room >= held.sizes[new]:
            break
        if 2 * _reads(passes, new, when[old]) < held.clips[new]:
            return None
        removed.append(old)
        room += held.sizes[old]
    return new, removed


def _reads(passes: Sequence[Uses], shard: int, until: int) -> int:
    """How many clips of a shard are among the next `until` clips."""
    return sum(int(np.count_nonzero((shards == shard) & (times < until))) for shards, times in _to_come(passes))


def _to_come(passes: Sequence[Uses]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each pass the shards of the clips that are still to be read, and how many clips are read before each.

    The passes under way come one after the other, and the next ones after all of them.
    """
    positions = [uses.position() for uses in passes]
    left = [max(0, uses.length - position) for uses, position in zip(passes, positions, strict=True)]
    found, before, total = [], 0, sum(left)
    for uses, position, own in zip(passes, positions, left, strict=True):
        shards = uses.shards[position:]
        times = np.arange(len(shards))
        times += np.where(times < own, before, total - own)
        found.append((shards, times))
        before += own
    return found
