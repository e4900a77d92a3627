"""The contract of object storage, and readers of files: all that is asked of the place where shards lie."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from shardify.storage.address import Address

PART = 8 << 20  # bytes that are asked for at a time, where a whole file is read


class Reader(Protocol):
    """An open file of which any part can be read."""

    size: int  # bytes

    def read(self, offset: int, length: int) -> bytes:
        """So many bytes from there on, fewer where the file ends."""


@dataclass(frozen=True)
class RemoteFile:
    """A file in object storage."""

    name: str
    size: int  # bytes
    etag: str | None  # another one for another content
    modified: float = field(default=0.0, compare=False)  # seconds since 1970, where that is known
    version: str | None = field(default=None, compare=False)  # by which gs knows what is to be replaced; not in lists


class RemoteStorage(Protocol):
    """What a module beside `remote` must offer to be read from; it raises StorageError where something fails."""

    def open_reader(self, address: Address, file: RemoteFile | None = None) -> AbstractContextManager[Reader]:
        """The file, open for reading; each read is a request. file: what is meant, where that is known."""

    def read_bytes(self, address: Address) -> bytes:
        """A small file, whole."""

    def download(self, address: Address, path: Path, file: RemoteFile | None = None) -> None:
        """Copy a file to this machine, whole or not at all. file: what is meant, where that is known."""

    def list_files(self, folder: Address) -> Sequence[RemoteFile]:
        """All files below a folder, sorted by their names, which are relative to it."""


class ReaderFile(io.RawIOBase):
    """A reader as a binary file object; in an `io.BufferedReader`, its buffer is what one request asks for."""

    def __init__(self, reader: Reader) -> None:
        self._reader, self._place = reader, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = (0, self._place, self._reader.size)[whence] + offset
        return self._place

    def readinto(self, buffer: memoryview) -> int:
        found = self._reader.read(self._place, len(buffer))
        buffer[: len(found)] = found
        self._place += len(found)
        return len(found)


class SequentialReader:
    """A reader for who goes through a file from its start to its end: it reads ahead, and hashes what goes by."""

    def __init__(self, reader: Reader, part: int = PART) -> None:
        self._reader, self._part = reader, part
        self._start, self._held = 0, b""
        self._digest = hashlib.sha256()
        self.size = reader.size

    def read(self, offset: int, length: int) -> bytes:
        """As of `Reader`; offset: never before that of an earlier call."""
        while self._start + len(self._held) < min(offset + length, self.size):
            self._read_on(offset)
        skipped = offset - self._start
        assert skipped >= 0, "it reads forwards only"
        return self._held[skipped : skipped + length]

    def sha256(self) -> str:
        """Of the whole file, as hexadecimal digits; what has not been read is read now."""
        while self._start + len(self._held) < self.size:
            self._read_on(self.size)
        return self._digest.hexdigest()

    def _read_on(self, wanted: int) -> None:
        """One part more; what lies before `wanted` is dropped."""
        end = self._start + len(self._held)
        part = self._reader.read(end, min(self._part, self.size - end))
        if not part:
            raise OSError(f"ends at byte {end} of {self.size}")
        self._digest.update(part)
        dropped = min(max(0, wanted - self._start), len(self._held))
        self._start, self._held = self._start + dropped, self._held[dropped:] + part
