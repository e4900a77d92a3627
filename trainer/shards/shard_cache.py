"""The copies of remote shards on this machine's disk: all its processes read them, and one downloads."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO

import numpy as np

from shardify.errors import StorageError
from shardify.format.fetch import MARK, check_shards, copy_tables
from shardify.format.index import all_shards, read_meta
from shardify.format.members.base import MAX_BYTES
from shardify.storage import remote
from shardify.storage.address import Address
from shardify.storage.base import RemoteFile
from shardify.storage.local import open_reader
from shardify.storage.place import storage_of
from shardify.text import human_bytes
from trainer.config.settings import DataSettings
from trainer.errors import FormatError
from trainer.shards.cache_plan import Held, Uses, choose

logger = logging.getLogger(__name__)

AUTO_SHARE = 0.8  # of the disk that is free
PAUSE_SECONDS = 1.0  # until a cache without room is looked at again


def cache_of(data: DataSettings) -> ShardCache:
    """The cache that a run's settings ask for."""
    return ShardCache(data.cache_dir, data.cache_gb)


def cache_of_saved(data: DataSettings) -> ShardCache:
    """The cache of a run that may have been on another machine: its folder, where there is one here."""
    return cache_of(data) if Path(data.cache_dir).expanduser().is_dir() else ShardCache()


@dataclass
class _Shard:
    """A shard there, and its place here."""

    address: Address
    copy: Path
    file: RemoteFile
    clips: int
    given_up: bool = False  # it could not be downloaded


class ShardCache:
    """Whole shards in a folder of this machine, never more bytes than its bound; what is not there is read in parts.

    A process that holds the folder's lock downloads, in a thread of its own, in the order in which clips are read;
    nobody waits for it, and the order of clips does not depend on it. folder: "auto" is ~/.cache/shardify.
    gigabytes: the bound; "auto": 80% of the free disk; 0: no shard is kept.
    """

    def __init__(self, folder: Path | str = "auto", gigabytes: float | str = "auto") -> None:
        self._options = folder, gigabytes
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self.folder = home / "shardify" if folder == "auto" else Path(folder).expanduser()
        self._gigabytes = gigabytes
        self._numbers: dict[Address, int] = {}  # of the shards, in the order of these lists
        self._shards: list[_Shard] = []
        self._here: dict[Path, int] = {}  # shards in the folder and their bytes, those of other runs too
        self._passes: dict[Hashable, Uses] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._lock: IO | None = None
        self._stopped = gigabytes == 0

    def __reduce__(self) -> tuple:
        return _with_shards, (self._options, self._numbers, self._shards)

    def add(self, folder: Address) -> Path:
        """Copy a folder's tables to this machine, and remember its shards; returns where the copies lie.

        Of a storage that is not to be asked for parts of files, the Hub, all shards are copied too.
        Raises FormatError, StorageError, OSError.
        """
        tables = copy_tables(folder, self.folder)
        files = check_shards(folder, tables)
        if storage_of(folder) is not remote:
            self._copy_all(folder, tables, files)
        with self._changed:
            for shard in all_shards(read_meta(tables)):
                name = shard["name"]
                self._numbers[folder / name] = len(self._shards)
                self._shards.append(_Shard(folder / name, tables / name, files[name], shard["samples"]))
        return tables

    def adopt(self, other: ShardCache) -> None:
        """Read and copy the shards of another cache too; their copies stay where they are."""
        with self._changed:
            for address in other._numbers.keys() - self._numbers.keys():
                self._numbers[address] = len(self._shards)
                self._shards.append(other._shards[other._numbers[address]])

    def read(self, address: Address, offset: int, length: int) -> bytes | memoryview:
        """A part of a shard, of its copy where there is one; nothing where it has no such part. Raises StorageError."""
        shard = self._shards[self._numbers[address]]
        if offset + length > shard.file.size or length > MAX_BYTES:
            return b""
        with contextlib.suppress(FileNotFoundError), open_reader(shard.copy) as reader:
            return reader.read(offset, length)
        return remote.read_range(address, offset, length, shard.file.etag)

    def drop(self, address: Address) -> None:
        """Remove a copy that is damaged."""
        shard = self._shards[self._numbers[address]]
        with self._changed:
            shard.copy.unlink(missing_ok=True)
            self._here.pop(shard.copy, None)

    def expect(
        self, loader: Hashable, shards: Sequence[PurePath], order: np.ndarray, length: int, position: Callable[[], int]
    ) -> None:
        """Say what a loader reads: for each clip, of a pass of this length and of the next one, which of these shards.

        order: int64 (N,). position: how many of these clips it has asked for by now.
        """
        with self._changed:
            numbers = np.array([self._numbers.get(shard, -1) for shard in shards], np.int64)
            self._passes.pop(loader, None)
            self._passes[loader] = Uses(numbers[order], length, position)  # the last one in their sequence
            self._changed.notify_all()
            if not self._stopped and self._thread is None and self._take_lock():
                self._thread = threading.Thread(target=self._download_all, name="shards", daemon=True)
                self._thread.start()

    def forget(self, loader: Hashable) -> None:
        """Say that a loader reads nothing any more."""
        with self._changed:
            self._passes.pop(loader, None)
            self._changed.notify_all()

    def _take_lock(self) -> bool:
        """Whether this process is the one that downloads."""
        if self._lock is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = open(self.folder / ".lock", "w")  # noqa: SIM115 (held until this value goes)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # another process has it
                lock.close()
                return False
            self._lock = lock
            for left in self._copies(".*.tar.tmp"):  # of a process that was killed
                left.unlink(missing_ok=True)
        return True

    def _download_all(self) -> None:
        """Keep downloading what is read next, as long as a loader reads."""
        most = self._most_bytes()
        self._here = {path: _size(path) for path in self._copies("*.tar")}
        most -= self._used_bytes() - sum(self._here.values())  # tables stay
        while True:
            with self._changed:
                if not self._passes or self._stopped:
                    self._thread = None
                    return
                held, room = self._held(), most - sum(self._here.values())
                own = {shard.copy for shard in self._shards}
                strangers = {path: size for path, size in self._here.items() if path not in own}
                chosen = choose(list(self._passes.values()), held, room + sum(strangers.values()))
                if chosen is None:
                    is_whole = (held.here | held.given_up).all()
                    self._changed.wait(None if is_whole else PAUSE_SECONDS)
                    continue
            new, old = chosen
            missing = self._shards[new].file.size - room
            for path in [*strangers, *(self._shards[number].copy for number in old)]:
                if missing > 0:
                    path.unlink(missing_ok=True)
                    missing -= self._here.pop(path, 0)
            self._download(self._shards[new])

    def _download(self, shard: _Shard) -> None:
        try:
            storage_of(shard.address).download(shard.address, shard.copy, shard.file)
            self._here[shard.copy] = shard.file.size
        except StorageError as error:
            shard.given_up = True
            logger.warning(f"no copy is made: {error}")
        except OSError as error:
            self._stopped = True
            logger.warning(f"{self.folder}: no more shards are copied ({error.strerror}); they are read in parts")

    def _held(self) -> Held:
        shards = self._shards
        return Held(
            sizes=np.array([shard.file.size for shard in shards], np.int64),
            clips=np.array([shard.clips for shard in shards], np.int64),
            here=np.array([shard.copy in self._here for shard in shards], bool),
            given_up=np.array([shard.given_up for shard in shards], bool),
        )

    def _copies(self, pattern: str) -> list[Path]:
        """Files of folders of copies, those of other runs too; a user may keep folders of other kinds beside them."""
        return [path for mark in self.folder.glob(f"*/{MARK}") for path in mark.parent.glob(pattern)]

    def _used_bytes(self) -> int:
        return sum(map(_size, self._copies("*")))

    def _most_bytes(self) -> int:
        if self._gigabytes != "auto":
            return int(self._gigabytes * 1e9)
        return int(AUTO_SHARE * (shutil.disk_usage(self.folder).free + self._used_bytes()))

    def _copy_all(self, folder: Address, tables: Path, files: dict[str, RemoteFile]) -> None:
        """All shards of a folder, before anything is read of it; of several processes one copies, the others wait."""
        with open(self.folder / ".lock-all", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for unfinished in tables.glob(".*.tmp"):  # of a process that was killed
                shutil.rmtree(unfinished, ignore_errors=True)
            left = {name: file for name, file in files.items() if not (tables / name).is_file()}
            need, room = sum(file.size for file in left.values()), self._most_bytes() - self._used_bytes()
            if need > room:
                raise FormatError(
                    f"{folder}: its shards take {human_bytes(need)}, {self.folder} has room for "
                    f"{human_bytes(max(0, room))}; set data.cache_dir to another disk, or data.cache_gb higher"
                )
            for done, (name, file) in enumerate(left.items(), 1):
                logger.info(f"{folder}: copying shard {done} of {len(left)}, {human_bytes(file.size)}")
                storage_of(folder).download(folder / name, tables / name, file)


def _size(path: Path) -> int:
    """Bytes; 0 of what another process has removed meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _with_shards(options: tuple, numbers: dict[Address, int], shards: list[_Shard]) -> ShardCache:
    cache = ShardCache(*options)
    cache._numbers, cache._shards = numbers, shards
    return cache
