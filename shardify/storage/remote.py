"""Objects of a bucket, or files of a web server: read in parts, listed, and written whole or not at all.

Every function raises StorageError with the address, the cause and what to do: MissingObjectError where there is no
such object, ConflictError where a condition of a write does not hold.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from shardify.errors import ConflictError, MissingObjectError, StorageError, UsageError
from shardify.storage.address import Address
from shardify.storage.attempts import TryAgain, attempt
from shardify.storage.base import PART, RemoteFile
from shardify.storage.local import write_atomically
from shardify.storage.stores import HOW_TO_SIGN, store_of

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

T = TypeVar("T")

PARTS_AT_ONCE = 4  # of an upload
PASSING = (408, 425, 429)  # HTTP codes below 500 of failures that pass
CAUSES = {  # what obstore's errors have in them, for people
    "dns error": "the host's name is not known",
    "kind: Timeout": "no answer in time",
    "kind: Connect,": "no connection",
    "kind: Interrupted": "the connection broke off",
}


@dataclass(frozen=True)
class RangeReader:
    """An object of which any part can be read, as long as it is not replaced."""

    address: Address
    size: int  # bytes
    etag: str | None

    def read(self, offset: int, length: int) -> bytes:
        return bytes(read_range(self.address, offset, min(length, self.size - offset), self.etag))


@contextlib.contextmanager
def open_reader(address: Address, file: RemoteFile | None = None) -> Iterator[RangeReader]:
    """The object, open for reading. file: what is meant, where that is known."""
    found = file or head(address)
    yield RangeReader(address, found.size, found.etag)


def read_range(address: Address, offset: int, length: int, etag: str | None = None) -> memoryview:
    """So many bytes from there on, all of them. etag: of the object that is meant."""
    if length <= 0:
        return memoryview(b"")

    def ask(obs: ModuleType, store: ObjectStore, key: str) -> memoryview:
        if etag is None:
            found = obs.get_range(store, key, start=offset, length=length)
        else:
            found = obs.get(store, key, options={"range": (offset, offset + length), "if_match": etag}).bytes()
        if len(found) != length:
            raise TryAgain(f"{len(found)} of the {length} bytes from {offset} on")
        return memoryview(found)

    return _bounded(address, ask)


def read_bytes(address: Address) -> bytes:
    """The whole object, in one request: for small ones."""
    return _bounded(address, lambda obs, store, key: bytes(obs.get(store, key).bytes()))


def download(address: Address, path: Path, file: RemoteFile | None = None) -> None:
    """Copy an object to this machine, whole or not at all. file: what is meant, where that is known.

    Raises OSError, of a full disk for one.
    """
    file = file or head(address)
    parts = [(start, min(PART, file.size - start)) for start in range(0, file.size, PART)]
    write_atomically(path, (read_range(address, start, length, file.etag) for start, length in parts))


def head(address: Address) -> RemoteFile:
    """An object's size and ETag, without its content."""
    found = _bounded(address, lambda obs, store, key: obs.head(store, key))
    return _file(address.name, found)


def _file(name: str, found: ObjectMeta) -> RemoteFile:
    etag, modified = _strong(found["e_tag"]), found["last_modified"].timestamp()
    return RemoteFile(name, found["size"], etag, modified, found["version"])


def list_files(folder: Address) -> list[RemoteFile]:
    """All objects below a folder, sorted by their names, which are relative to it."""
    if folder.scheme in ("http", "https"):
        raise UsageError(f"{folder}: the files of a web server cannot be listed; use a bucket or a folder")
    start = f"{folder.key}/" if folder.key else ""

    def ask(obs: ModuleType, store: ObjectStore, key: str) -> list[RemoteFile]:
        found = obs.list(store, start or None, chunk_size=1000).collect()
        folders = _folders(one["path"] for one in found) | {folder.key}
        files = (one for one in found if one["size"] or one["path"] not in folders)
        return [_file(one["path"].removeprefix(start), one) for one in files]

    return sorted(_bounded(folder, ask, many=True), key=lambda file: file.name)


def _folders(paths: Iterable[str]) -> set[str]:
    """All that have others below them: consoles make empty objects of these names, to show folders."""
    folders = set()
    for path in paths:
        while (path := path.rpartition("/")[0]) and path not in folders:
            folders.add(path)
    return folders


def _strong(etag: str | None) -> str | None:
    """An ETag that conditions can be made with: web servers also give weak ones, of which none holds."""
    return None if etag is None or etag.startswith("W/") else etag


def write_bytes(address: Address, payload: bytes) -> RemoteFile:
    """Put an object there, in place of one that is there."""
    return _write(address, payload, "overwrite")


def create(address: Address, payload: bytes) -> RemoteFile:
    """Put an object where there is none. The payload must be nobody else's: a lost answer is found by it."""
    return _write(address, payload, "create")


def replace(address: Address, payload: bytes, old: RemoteFile) -> RemoteFile:
    """Put an object in place of one as `head`, or writing it, has given it. The payload as of `create`."""
    known = {"e_tag": old.etag, "version": old.version}
    return _write(address, payload, {name: value for name, value in known.items() if value is not None})


def _write(address: Address, payload: bytes, mode: str | dict) -> RemoteFile:
    def ask(obs: ModuleType, store: ObjectStore, key: str) -> dict:
        return obs.put(store, key, payload, mode=mode, use_multipart=False)

    try:
        put = _bounded(address, ask)
        return RemoteFile(address.name, len(payload), _strong(put["e_tag"]), version=put["version"])
    except ConflictError:
        with contextlib.suppress(MissingObjectError):
            if read_bytes(address) == payload:  # an earlier try has arrived, but not its answer
                return head(address)
        raise


def upload(address: Address, path: Path) -> None:
    """Copy a file to an object, in parts that appear together when the last one is there."""

    def ask(obs: ModuleType, store: ObjectStore, key: str) -> object:
        return obs.put(store, key, path, chunk_size=PART, max_concurrency=PARTS_AT_ONCE)

    _bounded(address, ask, many=True)
    if (found := head(address).size) != path.stat().st_size:
        raise StorageError(f"{address}: has {found} bytes after its upload, {path} {path.stat().st_size}; try again")


def delete(address: Address) -> None:
    """Remove an object; one that is not there is no error."""
    with contextlib.suppress(MissingObjectError):
        _bounded(address, lambda obs, store, key: obs.delete(store, key))


def _bounded(address: Address, ask: Callable[[ModuleType, ObjectStore, str], T], *, many: bool = False) -> T:
    """What `ask` returns of obstore, bucket and key, within our bounds. many: whether it makes many requests."""
    store = store_of(address, retries=many)
    import obstore

    def judged() -> T:
        try:
            return ask(obstore, store, address.key)
        except (obstore.exceptions.BaseError, FileNotFoundError) as error:
            meaning = _meaning(address, error)
            if many and isinstance(meaning, TryAgain):  # obstore has tried it again already
                raise StorageError(f"{address}: {meaning}; look at the network, then run it again") from error
            raise meaning from error

    return attempt(address, judged)


def _meaning(address: Address, error: Exception) -> TryAgain | StorageError:
    from obstore import exceptions

    text = str(error)
    status = re.search(r"status code: (\d{3})", text.partition("\n")[0])
    code = int(status[1]) if status else 0
    if isinstance(error, FileNotFoundError) or code == 404:
        return MissingObjectError(f"{address}: is not there; check the address, and the endpoint if you have set one")
    if isinstance(error, (exceptions.AlreadyExistsError, exceptions.PreconditionError)):
        return ConflictError(f"{address}: was written by somebody else meanwhile; run the same command again")
    if isinstance(error, (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)) or code in (401, 403):
        return StorageError(f"{address}: access is refused; {HOW_TO_SIGN[address.scheme]}")
    if isinstance(error, exceptions.InvalidPathError):
        reason = " ".join(text.partition("\n")[0].split())
        return StorageError(f"{address}: has a key that cannot be read ({reason}); rename that object, or remove it")
    if "169.254." in text or "metadata.google" in text:  # there obstore looks for keys last
        return StorageError(f"{address}: no keys are found; {HOW_TO_SIGN[address.scheme]}")
    if code and code < 500 and code not in PASSING:
        return StorageError(f"{address}: the server answers HTTP {code}; check the address, region and endpoint")
    if isinstance(error, exceptions.NotSupportedError) or "NotPartial" in text:
        return StorageError(f"{address}: the server gives no parts of files; copy the folder to this machine")
    causes = [words for pattern, words in CAUSES.items() if pattern in text]
    return TryAgain(f"HTTP {code}" if code else causes[0] if causes else type(error).__name__)
