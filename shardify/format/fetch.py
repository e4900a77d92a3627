"""Copies of the tables of a shards folder in object storage, on which everything works as on those of a folder here."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from shardify.errors import FormatError, MissingObjectError, UsageError
from shardify.format.index import all_shards, read_meta, sha256
from shardify.storage.address import Address
from shardify.storage.base import RemoteFile
from shardify.storage.local import file_sha256, write_atomically
from shardify.storage.place import storage_of

MARK = ".shardify-copy"  # is in every folder of copies, and locked while they are made


@contextlib.contextmanager
def copied_tables(folder: Address, into: Path, make_room: Callable[[int], object] | None = None) -> Iterator[Path]:
    """The folder on this machine with index.json, samples.npy and samples.csv, in one below `into` of their own.

    Another index.json comes into another one; what is there already is kept, and of several processes one copies. Until
    the block ends, nobody else does, or removes that folder. make_room: called with the bytes that will be copied,
    where the storage lists its files. Raises FormatError where they are not those of a finished build, StorageError,
    OSError.
    """
    storage = storage_of(folder)
    try:
        index = storage.read_bytes(folder / "index.json")
    except MissingObjectError as error:
        raise FormatError(
            f"{folder}: has no index.json, or is not there: check the address, or run its build to the end"
        ) from error
    tables = into / f"{folder.name}-{sha256(index)[:16]}"
    with _locked(tables):
        write_atomically(tables / "index.json", index, f".{os.getpid()}")
        expected = read_meta(tables)["sha256"]
        missing = [name for name in expected if not _is_right(tables / name, expected[name])]
        if missing and make_room:
            make_room(_bytes_of(folder, missing))
        for name in missing:
            storage.download(folder / name, tables / name)
            if not _is_right(tables / name, expected[name]):
                raise FormatError(f"{folder / name}: differs from index.json; copy the folder there again")
        yield tables


def _is_right(copy: Path, sha256: str) -> bool:
    return copy.is_file() and file_sha256(copy) == sha256


@contextlib.contextmanager
def _locked(tables: Path) -> Iterator[None]:
    """The folder of copies, made where there is none, for this process alone."""
    while True:
        tables.mkdir(parents=True, exist_ok=True)
        try:
            lock = open(tables / MARK, "w")  # noqa: SIM115
        except FileNotFoundError:  # somebody has just removed the folder
            continue
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.fstat(lock.fileno()).st_nlink:  # else it was removed while this process waited
                yield
                return


def _bytes_of(folder: Address, names: Collection[str]) -> int:
    """What these files take; 0 of a web server, which lists nothing."""
    try:
        return sum(file.size for file in storage_of(folder).list_files(folder) if file.name in names)
    except UsageError:
        return 0


@contextlib.contextmanager
def tables_of(folder: Path | Address) -> Iterator[Path]:
    """The folder on this machine that has a folder's tables: itself, or copies for as long as the block takes."""
    if isinstance(folder, Path):
        yield folder
        return
    with tempfile.TemporaryDirectory() as into, copied_tables(folder, Path(into)) as tables:
        yield tables


def check_shards(folder: Address, tables: Path) -> dict[str, RemoteFile]:
    """The shards that lie in the folder, by name, as it lists them; a web server lists nothing.

    Raises FormatError where one that index.json names is missing or has another size.
    """
    shards = all_shards(read_meta(tables))
    try:
        found = {file.name: file for file in storage_of(folder).list_files(folder)}
    except UsageError:
        return {shard["name"]: RemoteFile(shard["name"], shard["bytes"], None) for shard in shards}
    if missing := [shard["name"] for shard in shards if shard["name"] not in found]:
        raise FormatError(
            f"{folder}: {missing[0]} is missing ({len(missing)} of {len(shards)} shards are); copy the folder again"
        )
    for shard in shards:
        size = found[shard["name"]].size
        if size != shard["bytes"]:
            raise FormatError(
                f"{folder / shard['name']}: has {size} bytes instead of {shard['bytes']}; copy the folder again"
            )
    return {shard["name"]: found[shard["name"]] for shard in shards}
