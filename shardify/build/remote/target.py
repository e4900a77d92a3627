"""The shards folder of a build: one of this machine, or a copy of one in object storage, which follows it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from shardify.errors import BusyError, ConflictError, FormatError, MissingObjectError, ShardifyError, UsageError
from shardify.format.index import TABLES
from shardify.format.schema import SHARD
from shardify.format.shard import journal_path, read_entry, read_journal
from shardify.storage import remote
from shardify.storage.address import Address
from shardify.storage.base import RemoteFile
from shardify.storage.local import file_sha256, list_names

LOCK = ".lock"
READERS = 16  # of journal entries, of which there are thousands
INDEX = ("index.json", ".new-index.json")  # which come last, for they name the others


class Target:
    """A folder of this machine: what is there needs not be sent anywhere."""

    address: Address | None = None

    def finished(self, folder: Path, name: str, plan_id: str) -> dict | None:
        """The journal entry of a shard of this plan that is whole; None: it is to be built."""
        return read_journal(folder, name, plan_id)

    def here(self, shard: dict) -> contextlib.AbstractContextManager:
        """While entered, a finished shard's tar is here. shard: its entry in index.json."""
        return contextlib.nullcontext()

    def publish(self, entry: dict) -> None:
        """A shard is finished. entry: of its journal."""

    def sync(self) -> None:
        """Files other than tars have changed, or files are gone."""


LOCAL = Target()


class RemoteTarget(Target):
    """A folder in object storage, held by one build; `folder` on this machine has its files, but tars without content.

    A shard's journal entry is there before its tar, which appears whole, and goes after it; index.json is written
    last, and only in place of the one that the build began with. Raises StorageError; BusyError where another build
    holds the folder.
    """

    def __init__(self, address: Address, folder: Path) -> None:
        if address.scheme in ("http", "https", "hf"):
            raise UsageError(f"{address}: is only read; build into a bucket of s3, gs or az, or into a folder")
        self.address, self.folder = address, folder / address.name
        self._there: dict[str, tuple] = {}  # name → state of the file here that the bucket has
        self._index: RemoteFile | None = None
        self._lock: RemoteFile | None = None
        self._pool, self._sending = ThreadPoolExecutor(1, "upload"), Future()
        self._sending.set_result(None)

    def open(self) -> None:
        """Fetch the tables and the journal; of all else there are empty files of their sizes."""
        self.folder.mkdir(parents=True)
        files = [file for file in remote.list_files(self.address) if "/" not in file.name and file.name != LOCK]
        if "index.json" in {file.name for file in files}:
            self._index = remote.head(self.address / "index.json")
            files = [self._index if file.name == "index.json" else file for file in files]
        with ThreadPoolExecutor(READERS) as pool:
            self._there = dict(pool.map(self._fetch, files))

    @contextlib.contextmanager
    def locked(self, take_over: bool) -> Iterator[None]:
        """While entered, the folder is this build's. take_over: from a build that has died."""
        lock = self.address / LOCK
        mine = json.dumps({"host": socket.gethostname(), "build": secrets.token_hex(8)}).encode()
        try:
            self._lock = remote.create(lock, mine)
        except ConflictError as error:
            held = self._holder()
            if held and not take_over:
                raise BusyError(
                    f"{self.address}: another build is running here, on {held[0]}; wait for it to end, or pass "
                    f"--take-over where it has died"
                ) from error
            self._lock = remote.replace(lock, mine, held[1]) if held else remote.create(lock, mine)
        try:
            self._check_store(lock)
            yield
        finally:
            with contextlib.suppress(ShardifyError):
                self._check_lock()
                remote.delete(lock)

    def finished(self, folder: Path, name: str, plan_id: str) -> dict | None:
        entry = read_entry(folder, name, plan_id)
        path = folder / name
        is_whole = entry and (not entry["samples"] or (path.exists() and path.stat().st_size == entry["bytes"]))
        return entry if is_whole else None

    @contextlib.contextmanager
    def here(self, shard: dict) -> Iterator[None]:
        path = self.folder / shard["name"]
        remote.download(self.address / shard["name"], path)
        try:
            if file_sha256(path) != shard["sha256"]:
                raise FormatError(f"{path}: is damaged; build into a new folder")
            yield
        finally:
            _make_empty(path, shard["bytes"])

    def publish(self, entry: dict) -> None:
        self._sending.result()
        self._sending = self._pool.submit(self._publish, entry)

    def sync(self) -> None:
        self._sending.result()
        self._check_lock()
        here = {name for name in list_names(self.folder) if not name.endswith(".tmp")}
        for name in sorted(here, key=lambda name: (name in INDEX, name not in TABLES, name)):
            path = self.folder / name
            if SHARD.fullmatch(name) is None and self._there.get(name) != _state(path):
                self._put(path)
        for name in sorted(self._there.keys() - here, key=lambda name: (name.startswith("."), name)):
            self._check_lock()
            remote.delete(self.address / name)
            del self._there[name]

    def close(self) -> None:
        self._pool.shutdown()

    def _fetch(self, file: RemoteFile) -> tuple[str, tuple]:
        path = self.folder / file.name
        if file.name.startswith(".") or file.name in (*TABLES, *INDEX):
            remote.download(self.address / file.name, path, file)
            os.utime(path, (file.modified, file.modified))  # sources that are newer have changed since
        else:
            _make_empty(path, file.size)
        return file.name, _state(path)

    def _publish(self, entry: dict) -> None:
        """Put the entry there, then the tar, of which an empty file is left here."""
        self._check_lock()
        path = self.folder / entry["name"]
        if entry["name"] in self._there:  # of another plan: it must not be taken for that of the entry
            remote.delete(self.address / entry["name"])
        self._put(journal_path(self.folder, entry["name"]))
        if entry["samples"]:
            remote.upload(self.address / entry["name"], path)
            self._check_lock(entry["name"])
            _make_empty(path, entry["bytes"])
            self._there[entry["name"]] = _state(path)

    def _put(self, path: Path) -> None:
        address = self.address / path.name
        if path.name == "index.json":
            content, old = path.read_bytes(), self._index
            self._index = remote.replace(address, content, old) if old else remote.create(address, content)
        else:
            remote.upload(address, path)
        self._check_lock(path.name)
        self._there[path.name] = _state(path)

    def _holder(self) -> tuple[str, RemoteFile] | None:
        """Which machine holds the folder, and its lock; None where it has let go."""
        lock = self.address / LOCK
        try:
            held = remote.head(lock)
            return json.loads(remote.read_bytes(lock)).get("host", "?"), held
        except MissingObjectError:
            return None
        except (ValueError, AttributeError):
            return "a machine that is not known", held

    def _check_lock(self, sent: str = "") -> None:
        """Raises ShardifyError where another build has taken the folder over. sent: the file just written there."""
        try:
            if remote.head(self.address / LOCK).etag == self._lock.etag:
                return
        except MissingObjectError:
            pass
        late = f"; {sent} was sent meanwhile, so let that build end, then run shardify verify {self.address}"
        raise ShardifyError(
            f"{self.address}: another build has taken over; nothing more is written by this one{late if sent else ''}"
        )

    def _check_store(self, lock: Address) -> None:
        """Raises ShardifyError where the store would let two builds write at once."""
        try:
            self._lock = remote.create(lock, secrets.token_bytes(8))
        except ConflictError:
            return
        raise ShardifyError(
            f"{self.address}: the store ignores If-None-Match, so that two builds could write at once; build into a "
            f"folder of this machine, and copy it there"
        )


def _state(path: Path) -> tuple:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


def _make_empty(path: Path, size: int) -> None:
    with open(path, "wb") as file:
        file.truncate(size)
