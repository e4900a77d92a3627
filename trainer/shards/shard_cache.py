"""The copies of remote shards on this machine's disk: all its processes read them, and one downloads."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath
from typing import IO

import numpy as np

from shardify.errors import StorageError
from shardify.format.fetch import check_shards, copied_tables
from shardify.format.index import all_shards, read_meta
from shardify.format.members.base import MAX_BYTES
from shardify.storage import remote
from shardify.storage.address import Address
from shardify.storage.local import open_reader
from shardify.storage.place import storage_of
from trainer.config.settings import DataSettings
from trainer.errors import SettingsError
from trainer.shards.cache_plan import FAR, Held, Uses, choose, next_uses
from trainer.shards.copies import (
    Shard,
    fetch_whole,
    find_copies,
    free_bytes,
    hold,
    removable,
    remove_until,
    take_turn,
)

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0  # until a cache without room, or one that another process holds, is looked at again
LONG_PAUSE_SECONDS = 30.0  # until one that has all is looked at again
MOST_DROPS = 2  # of one shard's copies: what is damaged after that lies there damaged


def cache_of(data: DataSettings) -> ShardCache:
    """The cache that a run's settings ask for."""
    return ShardCache(data.cache_dir, data.cache_gb)


def cache_of_saved(data: DataSettings) -> ShardCache:
    """The cache of a run that may have been on another machine: in its folder, unless that is named and not here."""
    is_here = data.cache_dir == "auto" or Path(data.cache_dir).expanduser().is_dir()
    return cache_of(data) if is_here else ShardCache(gigabytes=data.cache_gb)


class ShardCache:
    """Whole shards in a folder of this machine, never more bytes than its bound; what is not there is read in parts.

    A process that holds the folder's lock downloads, in a thread of its own, in the order in which clips are read;
    nobody waits for it, and the order of clips does not depend on it. Shards of a storage that is not to be asked for
    parts, the Hub, are copied when they are needed, and stay while one of their folder may be read.
    folder: "auto" is ~/.cache/shardify. gigabytes: the bound; "auto": 80% of the free disk; 0: no shard is kept.
    """

    def __init__(self, folder: Path | str = "auto", gigabytes: float | str = "auto") -> None:
        self._options = folder, gigabytes
        self._gigabytes = gigabytes
        self._numbers: dict[Address, int] = {}  # of the shards, in the order of these lists
        self._shards: list[Shard] = []
        self._held: dict[Path, IO] = {}  # locks of folders that are read, so that their tables stay
        self._passes: weakref.WeakKeyDictionary[object, Uses] = weakref.WeakKeyDictionary()  # by their loaders
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._lock: IO | None = None
        self._stopped = self._has_told = False

    def __reduce__(self) -> tuple:
        return _with_shards, (self._options, self._numbers, self._shards)

    @functools.cached_property
    def folder(self) -> Path:
        """Where the copies lie. Raises SettingsError where it depends on a home folder and there is none."""
        chosen = self._options[0]
        try:
            if chosen != "auto":
                return Path(chosen).expanduser()
            return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shardify"
        except RuntimeError as error:
            raise SettingsError(f"data.cache_dir is {chosen}, and no home folder is known; name a folder") from error

    def add(self, folder: Address) -> Path:
        """Copy a folder's tables to this machine, and remember its shards; returns where the copies lie.

        Raises FormatError, StorageError, SettingsError, OSError.
        """
        in_parts = storage_of(folder) is remote
        with copied_tables(folder, self.folder, self._make_room) as tables:
            self._hold(tables, is_whole=not in_parts)
        files = check_shards(folder, tables)
        with self._changed:
            for shard in all_shards(read_meta(tables)):
                address, copy = folder / shard["name"], tables / shard["name"]
                self._numbers[address] = len(self._shards)
                file = files[shard["name"]]
                self._shards.append(Shard(address, copy, file, shard["samples"], shard["sha256"], in_parts))
        return tables

    def adopt(self, other: ShardCache) -> None:
        """Read the shards of another cache too, and copy them where both have one folder."""
        with self._changed:
            for address in other._numbers.keys() - self._numbers.keys():
                self._numbers[address] = len(self._shards)
                shard = other._shards[other._numbers[address]]
                given_up = shard.given_up or self.folder != other.folder
                self._shards.append(dataclasses.replace(shard, given_up=given_up))
            self._held |= other._held

    def fetch(self, shards: Iterable[PurePath]) -> None:
        """Copy those of these shards that cannot be read in parts; of several processes one copies, the others wait.

        Raises FormatError where there is no room or one differs from index.json, StorageError, OSError.
        """
        known = [self._shards[self._numbers[shard]] for shard in shards if shard in self._numbers]
        fetch_whole([shard for shard in known if not shard.in_parts], self.folder, self._gigabytes)

    def read(self, address: Address, offset: int, length: int) -> tuple[bytes | memoryview, int]:
        """A part of a shard, nothing where it has no such part, and of which copy it is.

        That is when the copy was made, in nanoseconds since 1970; 0: it came over the network.
        Raises StorageError, and what `fetch` does.
        """
        shard = self._shards[self._numbers[address]]
        if offset + length > shard.file.size or length > MAX_BYTES:
            return b"", 0
        if not shard.in_parts:
            self.fetch([address])
        with contextlib.suppress(FileNotFoundError), open_reader(shard.copy) as reader:
            return reader.read(offset, length), reader.changed
        return remote.read_range(address, offset, length, shard.file.etag) if shard.in_parts else b"", 0

    def drop(self, address: Address) -> None:
        """Remove a copy that is damaged, unless copies of this shard always are."""
        shard = self._shards[self._numbers[address]]
        with self._changed:
            if shard.drops < MOST_DROPS:
                shard.drops += 1
                with contextlib.suppress(OSError):  # then it is read again as it is
                    shard.copy.unlink(missing_ok=True)
                self._changed.notify_all()

    def expect(
        self, loader: object, shards: Sequence[PurePath], order: np.ndarray, length: int, position: Callable[[], int]
    ) -> None:
        """Say what a loader reads: for each clip, of a pass of this length and of the next one, which of these shards.

        order: int64 (N,). position: how many of these clips it has asked for by now. Raises what `fetch` does.
        """
        self.fetch(shards)
        with self._changed:
            numbers = np.array([self._numbers.get(shard, -1) for shard in shards], np.int64)
            self._passes.pop(loader, None)
            self._passes[loader] = Uses(numbers[order], length, position)  # the last one in their sequence
            if not all(self._shards[number].is_here for number in numbers[numbers >= 0]):
                self._changed.notify_all()
            if not self._stopped and self._thread is None and any(self._shards[n].in_parts for n in numbers if n >= 0):
                self._thread = threading.Thread(target=self._download_all, name="shards", daemon=True)
                self._thread.start()

    def forget(self, loader: object) -> None:
        """Say that a loader reads nothing any more."""
        with self._changed:
            self._passes.pop(loader, None)
            self._changed.notify_all()

    def _make_room(self, need: int) -> None:
        """As far as that is possible: tables are read, whatever the bound is."""
        with contextlib.suppress(OSError):
            remove_until(removable(self.folder), free_bytes(self.folder, self._gigabytes), need)

    def _hold(self, tables: Path, *, is_whole: bool) -> None:
        if tables not in self._held:
            self._held[tables] = hold(tables, is_whole=is_whole)

    def _take_lock(self) -> bool:
        """Whether this process is the one that downloads; says so where another one copies other shards instead."""
        if self._lock is not None:
            return True
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = open(self.folder / ".lock", "a+")  # noqa: SIM115 (held as long as the thread lives)
        own = {shard.copy.parent.name for shard in self._shards if shard.in_parts}
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # another process has it
            with lock:
                lock.seek(0)
                theirs = set(lock.read().splitlines())
            if theirs and not own <= theirs and not self._has_told:
                self._has_told = True
                logger.warning(
                    f"{self.folder}: another process copies other shards into it; until it ends no more of "
                    f"{', '.join(sorted(own - theirs))} are copied, but read in parts; set data.cache_dir to another "
                    f"folder"
                )
            return False
        lock.truncate(0)
        lock.write("\n".join(sorted(own)))
        lock.flush()
        self._lock = lock
        for left in find_copies(self.folder, ".*.tar.tmp"):  # of a process that was killed
            left.unlink(missing_ok=True)
        return True

    def _download_all(self) -> None:
        """Keep downloading what is read next, as long as a loader reads."""
        while True:
            try:
                with contextlib.ExitStack() as turn:
                    shard = self._next(turn)
                    if shard is None:
                        return
                    self._download(shard)
            except OSError as error:
                self._stopped = True
                logger.warning(f"{self.folder}: no more shards are copied ({error.strerror}); they are read in parts")

    def _next(self, turn: contextlib.ExitStack) -> Shard | None:
        """The shard to download now, for which there is room; None, and no lock, once nothing is read or copied.

        turn: gets the lock under which it is to be downloaded.
        """
        with self._changed:
            while self._passes and not self._stopped:
                pause = PAUSE_SECONDS
                if self._take_lock() and take_turn(self.folder, turn):
                    shard, pause = self._choose()
                    if shard is not None:
                        return shard
                    turn.close()
                    self._stopped = self._gigabytes == 0
                if not self._stopped:
                    self._changed.wait(pause)
            self._thread = None
            if self._lock is not None:
                self._lock.close()
                self._lock = None
            return None

    def _choose(self) -> tuple[Shard | None, float]:
        """The shard to download, None where there is none for so many seconds; removes what must go."""
        passes, shards = list(self._passes.values()), self._shards
        here, room = removable(self.folder), free_bytes(self.folder, self._gigabytes)
        when = {shard.copy: use for shard, use in zip(shards, next_uses(passes, len(shards)).tolist(), strict=True)}
        last_first = sorted(here, key=lambda path: when.get(path, FAR + 1), reverse=True)
        room = remove_until({path: here[path] for path in last_first}, room, 0)
        here = {path: here[path] for path in last_first if path.exists()}
        strangers = {path: size for path, size in here.items() if path not in when}
        held = Held(
            sizes=np.array([shard.file.size for shard in shards], np.int64),
            clips=np.array([shard.clips for shard in shards], np.int64),
            here=np.array([shard.copy in here for shard in shards], bool),
            given_up=np.array([shard.given_up or not shard.in_parts for shard in shards], bool),
        )
        chosen = choose(passes, held, room + sum(strangers.values()))
        if chosen is None:
            return None, LONG_PAUSE_SECONDS if (held.here | held.given_up).all() else PAUSE_SECONDS
        new, old = chosen
        remove_until(strangers | {shards[number].copy: 0 for number in old}, room, shards[new].file.size)
        return shards[new], 0

    def _download(self, shard: Shard) -> None:
        try:
            storage_of(shard.address).download(shard.address, shard.copy, shard.file)
        except StorageError as error:
            shard.given_up = True
            logger.warning(f"no copy is made: {error}")


def _with_shards(options: tuple, numbers: dict[Address, int], shards: list[Shard]) -> ShardCache:
    cache = ShardCache(*options)
    cache._numbers, cache._shards = numbers, shards
    for shard in shards:
        cache._hold(shard.copy.parent, is_whole=not shard.in_parts)
    return cache
