"""The folders of copies of remote shards that lie in one folder of this machine: what they take, and what may go."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import shutil
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
WHOLE = ".whole"  # in folders whose shards cannot be read in parts; all who read them hold its lock


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
    """Bytes; 0 of what another process has removed meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def free_bytes(folder: Path, gigabytes: float | str) -> int:
    """How much may still be copied, below 0 where there is too much. gigabytes: the bound, or "auto"."""
    used = sum(map(size_of, find_copies(folder, "*")))
    most = AUTO_SHARE * (shutil.disk_usage(folder).free + used) if gigabytes == "auto" else gigabytes * 1e9
    return int(most) - used


def removable(folder: Path) -> dict[Path, int]:
    """The copies of shards that nobody needs, or that can also be read in parts, with their bytes."""
    found = {}
    for mark in folder.glob(f"*/{MARK}"):
        with _may_go(mark.parent) as may_go:
            found |= {path: size_of(path) for path in mark.parent.glob("*.tar") if may_go}
    return found


def remove(path: Path) -> int:
    """Remove a copy, and return how many bytes that frees: 0 where somebody needs it by now. Raises OSError."""
    with _may_go(path.parent) as may_go:
        size = size_of(path) if may_go else 0
        if may_go:
            path.unlink(missing_ok=True)
        return size


def remove_until(copies: Iterable[Path], room: int, need: int) -> int:
    """Remove copies, the first ones first, until there is room for so many bytes; the room then. Raises OSError."""
    for path in copies:
        if room >= need:
            break
        room += remove(path)
    return room


def hold(tables: Path) -> IO:
    """Keep the shards of a folder that cannot be read in parts, until this is closed. Raises OSError."""
    lock = open(tables / WHOLE, "w")  # noqa: SIM115
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


def fetch_whole(shards: Sequence[Shard], folder: Path, gigabytes: float | str) -> None:
    """Copy these shards as far as they are not here; of several processes one copies, the others wait.

    Raises FormatError where there is no room or one differs from index.json, StorageError, OSError.
    """
    if all(shard.is_here for shard in shards):
        return
    with open(folder / ".lock-all", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for unfinished in {path for shard in shards for path in shard.copy.parent.glob(".*.tmp")}:
            shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
        left = [shard for shard in shards if not shard.is_here]
        need, may_go = sum(shard.file.size for shard in left), removable(folder)
        free = free_bytes(folder, gigabytes)
        room = max(0, free + sum(may_go.values()))
        if left and need > room:
            raise FormatError(
                f"{left[0].address.parent}: its shards take {human_bytes(need)}, {folder} has room for "
                f"{human_bytes(room)}; set data.cache_dir to another disk, or data.cache_gb higher"
            )
        remove_until(may_go, free, need)
        for done, shard in enumerate(left, 1):
            logger.info(f"{shard.address.parent}: copying shard {done} of {len(left)}, {human_bytes(shard.file.size)}")
            _copy_whole(shard)


def _copy_whole(shard: Shard) -> None:
    if not shard.given_up:
        storage_of(shard.address).download(shard.address, shard.copy, shard.file)
        shard.given_up = file_sha256(shard.copy) != shard.sha256
    if shard.given_up:
        shard.copy.unlink(missing_ok=True)
        raise FormatError(f"{shard.address}: differs from index.json; upload the folder again")


@contextlib.contextmanager
def _may_go(tables: Path) -> Iterator[bool]:
    """Whether a folder's shards may be removed; until the block ends nobody begins to need them."""
    try:
        lock = open(tables / WHOLE)  # noqa: SIM115
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
