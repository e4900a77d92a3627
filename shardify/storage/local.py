"""Files of this machine, read in parts, and written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from shardify.errors import ShardifyError


class LocalReader:
    """A file that is open until the end of its `with` block; `size` in bytes, `changed` in nanoseconds since 1970."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._found = descriptor, os.fstat(descriptor)
        self.size = self._found.st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        os.close(self._descriptor)

    @property
    def changed(self) -> int:
        return self._found.st_mtime_ns

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, offset)


def open_reader(path: Path) -> LocalReader:
    """The file, open for reading; a pipe gives nothing instead of waiting for somebody to write. Raises OSError."""
    return LocalReader(os.open(path, os.O_RDONLY | os.O_NONBLOCK))


def list_names(folder: Path) -> list[str]:
    """The names in a folder, sorted."""
    return sorted(os.listdir(folder))


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, payload: bytes | Iterable[bytes], attempt: str = "") -> None:
    """Write a file under a temporary name beside its own, then `rename` it; the folder is made where there is none.

    A full disk, or a second Ctrl-C, leaves no half of a file. payload: the content, or its parts one after the other.
    attempt: part of the temporary name, where several write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name.lstrip('.')}{attempt}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.writelines([payload] if isinstance(payload, bytes) else payload)
        rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def rename(old: Path, new: Path) -> None:
    """Give a complete file its final name in the same folder: fsync, rename, fsync of the folder.

    What is renamed later is never on the disk without this.
    """
    with open(old, "rb") as file:
        os.fsync(file.fileno())
    os.replace(old, new)
    descriptor = os.open(new.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot do that with a folder
            raise
    finally:
        os.close(descriptor)


def check_writable(path: Path) -> None:
    """See to it that a file can be written there, before the hours that its content takes.

    Makes the folder. Raises ShardifyError.
    """
    try:
        if path.exists() and not path.is_file():
            raise ShardifyError(f"{path}: is not a regular file; pass another name")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ShardifyError(f"{path}: cannot be written ({error.strerror}); pass another name") from error
