"""The folders of copies of remote shards that lie in one folder of this machine: what they take, and what may go."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from shardify.format.fetch import MARK
from shardify.storage.address import Address
from shardify.storage.base import RemoteFile
from shardify.storage.local import file_sha256
from shardify.storage.place import storage_of
from shardify.text import human_bytes
from trainer.errors import FormatError

logger = logging.getLogger(__name__)

AUTO_SHARE = 0.8  # of the disk that is free
READ = ".read"  # in a folder of copies; all who read it hold its lock
WHOLE = ".whole"  # in those whose shards cannot be read in parts, and so stay while they are read
TURN = ".lock-all"  # beside them; who copies shards holds its lock


@dataclass
class Shard:
    """A shard there, and its place here."""

    address: Address
    copy: Path
    file: RemoteFile
    clips: int
    sha256: str
    in_parts: bool  # whether its storage gives parts of files
    given_up: bool = False  # it could not be downloaded, or is damaged there
    drops: int = 0

    @property
    def is_here(self) -> bool:
        return size_of(self.copy) == self.file.size


def find_copies(folder: Path, pattern: str) -> list[Path]:
    """Files of folders of copies, those of other runs too; a user may keep folders of other kinds beside them."""
    return [path for mark in folder.glob(f"*/{MARK}") for path in mark.parent.glob(pattern)]


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; 0 of what another process has removed meanwhile."""
    try:
        found = path.stat()
        return sum(map(size_of, path.iterdir())) if stat.S_ISDIR(found.st_mode) else found.st_size
    except FileNotFoundError:
        return 0


def free_bytes(folder: Path, gigabytes: float | str) -> int:
    """How much may still be copied, below 0 where there is too much. gigabytes: the bound, or "auto"."""
    used = sum(size_of(mark.parent) for mark in folder.glob(f"*/{MARK}"))
    most = AUTO_SHARE * (shutil.disk_usage(folder).free + used) if gigabytes == "auto" else gigabytes * 1e9
    return int(most) - used


def removable(folder: Path) -> dict[Path, int]:
    """What nobody needs, with its bytes: shards, and after those of a folder that nobody reads itself, for its tables.

    Last come shards that somebody reads, but can also read in parts.
    """
    unread, in_parts = {}, {}
    for tables in [mark.parent for mark in folder.glob(f"*/{MARK}")]:
        tars = {path: size_of(path) for path in tables.glob("*.tar")}
        with _unread(tables) as is_unread:
            if is_unread:
                unread |= tars | {tables: size_of(tables) - sum(tars.values())}
            elif not (tables / WHOLE).exists():
                in_parts |= tars
    return unread | in_parts


def remove(path: Path) -> int:
    """Remove a copy of a shard, or a folder of copies, and return how many bytes that frees.

    That is 0 where somebody needs it by now. Raises OSError.
    """
    if path.is_dir():
        return _remove_folder(path)
    with _unread(path.parent) as is_unread:
        if not is_unread and (path.parent / WHOLE).exists():
            return 0
        size = size_of(path)
        path.unlink(missing_ok=True)
        return size


def _remove_folder(tables: Path) -> int:
    with contextlib.ExitStack() as held:
        try:
            fcntl.flock(held.enter_context(open(tables / MARK)), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (FileNotFoundError, BlockingIOError):  # another process has removed it, or copies into it
            return 0
        if not held.enter_context(_unread(tables)):
            return 0
        size, gone = size_of(tables), tables.with_name(f".{tables.name}.{os.getpid()}.gone")
        tables.rename(gone)  # first, so that nobody finds a half of it
        shutil.rmtree(gone)
        return size


def remove_until(copies: Iterable[Path], room: int, need: int) -> int:
    """Remove copies, the first ones first, until there is room for so many bytes; the room then. Raises OSError."""
    for path in copies:
        if room >= need:
            break
        room += remove(path)
    return room


def hold(tables: Path, *, is_whole: bool) -> IO:
    """Keep a folder of copies until this is closed. is_whole: and the shards in it. Raises OSError."""
    if is_whole:
        (tables / WHOLE).touch()
    lock = open(tables / READ, "w")  # noqa: SIM115
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


def take_turn(folder: Path, held: contextlib.ExitStack) -> bool:
    """Whether nobody else copies shards into the folder; then nobody does until `held` is closed. Raises OSError."""
    lock = held.enter_context(open(folder / TURN, "w"))  # noqa: SIM115 (it is entered)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        return False
    return True


def fetch_whole(shards: Sequence[Shard], folder: Path, gigabytes: float | str) -> None:
    """Copy these shards as far as they are not here; of several processes one copies, the others wait.

    Raises FormatError where there is no room or one differs from index.json, StorageError, OSError.
    """
    if all(shard.is_here for shard in shards):
        return
    with open(folder / TURN, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for unfinished in {path for shard in shards for path in shard.copy.parent.glob(".*.tmp")}:
            shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
        left = [shard for shard in shards if not shard.is_here]
        need = sum(shard.file.size for shard in left)
        for done, shard in enumerate(left, 1):
            _make_room(shard, need, folder, gigabytes)  # each time: others copy tables meanwhile
            logger.info(f"{shard.address.parent}: copying shard {done} of {len(left)}, {human_bytes(shard.file.size)}")
            _copy_whole(shard)
            need -= shard.file.size


def _make_room(shard: Shard, need: int, folder: Path, gigabytes: float | str) -> None:
    """For this shard, and those after it. Raises FormatError where there is too little room for all."""
    may_go, free = removable(folder), free_bytes(folder, gigabytes)
    room = max(0, free + sum(may_go.values()))
    if need > room:
        raise FormatError(
            f"{shard.address.parent}: its shards take {human_bytes(need)}, {folder} has room for {human_bytes(room)}; "
            f"set data.cache_dir to another disk, or data.cache_gb higher"
        )
    remove_until(may_go, free, need)


def _copy_whole(shard: Shard) -> None:
    if not shard.given_up:
        storage_of(shard.address).download(shard.address, shard.copy, shard.file)
        shard.given_up = file_sha256(shard.copy) != shard.sha256
    if shard.given_up:
        shard.copy.unlink(missing_ok=True)
        raise FormatError(f"{shard.address}: differs from index.json; upload the folder again")


@contextlib.contextmanager
def _unread(tables: Path) -> Iterator[bool]:
    """Whether nobody reads a folder of copies; until the block ends nobody begins to."""
    try:
        lock = open(tables / READ)  # noqa: SIM115
    except FileNotFoundError:
        yield True
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
