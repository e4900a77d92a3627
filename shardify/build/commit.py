"""The switch from the old tables to the new ones, all at once, under the folder's lock."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import socket
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from shardify.build.previous import DRIVER, PLAN, UNFINISHED
from shardify.errors import BusyError, ShardifyError
from shardify.format.index import TABLES, json_bytes
from shardify.format.schema import SHARD
from shardify.format.settings import BuildSettings
from shardify.format.shard import journal_path
from shardify.storage.local import list_names, rename, write_atomically

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF)


@contextlib.contextmanager
def lock_folder(folder: Path, shared: bool = False) -> Iterator[None]:
    """Hold the folder for one build, or `shared` with others for a part of one; the kernel lets go when they end.

    The folder is made where there is none, and goes again where a whole build fails before it has written anything.
    Raises BusyError when another build holds it, ShardifyError where its file system has no locks.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(f"{folder}: another build is running here, or a part of one; wait for it to end") from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            raise ShardifyError(
                f"{folder}: its file system has no locks ({error.strerror}); mount it with them "
                f"(Lustre: -o flock; NFS: version 4, or without -o nolock), or build on a local disk"
            ) from error
        try:
            yield
        except BaseException:
            if is_new and not shared:
                with contextlib.suppress(OSError):  # it is not empty
                    folder.rmdir()
            raise
    finally:
        os.close(descriptor)


def begin(folder: Path, settings: BuildSettings) -> None:
    """Note the settings of a first build, for the time until there is an index."""
    note = json_bytes(settings.to_dict())
    path = folder / UNFINISHED
    if not (folder / "index.json").exists() and not (path.exists() and path.read_bytes() == note):
        write_atomically(path, note, f".{secrets.token_hex(4)}")  # parts may do so at once


@contextlib.contextmanager
def driving(folder: Path) -> Iterator[str]:
    """While entered, this is the build that a cluster works for; its token, for `check_driver`.

    Raises ShardifyError at the end where another build has taken over.
    """
    token = secrets.token_hex(8)
    write_atomically(folder / DRIVER, token.encode())
    try:
        yield token
        check_driver(folder, token)
    finally:
        if _driver(folder) == token:
            (folder / DRIVER).unlink()


def check_driver(folder: Path, token: str) -> None:
    """Raises ShardifyError where the build with this token has been stopped, or another has taken over."""
    if _driver(folder) != token:
        raise ShardifyError(
            f"{socket.gethostname()}: {folder} is not there, or another build has taken it over; put it on a file "
            f"system that every machine has at the same place"
        )


def _driver(folder: Path) -> str | None:
    try:
        return (folder / DRIVER).read_text()
    except OSError:
        return None


def commit(folder: Path, files: dict[str, bytes], sync: Callable[[], None] = lambda: None) -> None:
    """Replace the tables and index.json: wherever this is cut off, the folder is the old or the new one.

    sync: called when the new files are there, and when they have their names.
    """
    for name in TABLES:
        write_atomically(folder / f".new-{name}", files[name])
    write_atomically(folder / ".new-index.json", files["index.json"])  # from here on it rolls forward
    sync()
    roll_forward(folder)
    sync()


def roll_forward(folder: Path) -> None:
    """Finish a commit that was cut off, or clear away one that had not come far enough."""
    rolls = (folder / ".new-index.json").exists()
    for name in TABLES:
        new = folder / f".new-{name}"
        if new.exists():
            rename(new, folder / name) if rolls else new.unlink()
    if rolls:
        rename(folder / ".new-index.json", folder / "index.json")


def check_settled(folder: Path) -> None:
    """Raises ShardifyError where a commit was cut off, which only a whole build may finish."""
    if (folder / ".new-index.json").exists():
        raise ShardifyError(
            f"{folder}: an earlier build was cut off as it wrote its tables; run it once more, without --part"
        )


def give_up(folder: Path, names: Collection[str]) -> None:
    """Leave an empty journal entry for shards that the next index will not name: then they are leftovers."""
    for name in names:
        write_atomically(journal_path(folder, name), b"{}")


def remove_leftovers(folder: Path, indexed: Collection[str], wanted: Collection[str] = ()) -> None:
    """Drop temporary files, and shards with a journal entry that neither the index nor a plan names.

    indexed: names of the finished shards, which are never touched. wanted: names of those in work.
    """
    is_built = (folder / "index.json").exists()
    for name in list_names(folder):
        shard = name[1:].removesuffix(".json")
        ended = name == DRIVER or (name in (UNFINISHED, PLAN) and is_built)
        if (name.startswith(".") and name.endswith(".tmp")) or ended:
            (folder / name).unlink()
        elif name.startswith(".") and SHARD.fullmatch(shard) and shard not in wanted:
            if shard not in indexed:
                (folder / shard).unlink(missing_ok=True)
            (folder / name).unlink()
