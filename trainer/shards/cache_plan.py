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
    found, before = np.full(count, FAR), 0
    for uses in passes:
        left = uses.shards[uses.position() :]
        own = np.full(count + 1, FAR)  # the last one is that of -1
        own[left[::-1]] = np.arange(before, before + len(left))[::-1]  # the first use of each is set last
        found = np.minimum(found, own[:count])
        before += max(0, uses.length - uses.position())
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
    count = before = 0
    for uses in passes:
        position = uses.position()
        end = len(uses.shards) if until == FAR else position + max(0, int(until) - before)
        count += int(np.count_nonzero(uses.shards[position:end] == shard))
        before += max(0, uses.length - position)
    return count
