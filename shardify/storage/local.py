"""Files of this machine, written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from pathlib import Path

from shardify.errors import ShardifyError


def file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, payload: bytes) -> None:
    """Temporary name in the same folder, fsync, rename, fsync of the folder, which is made where there is none.

    A full disk leaves no half of a file to fill it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name.lstrip('.')}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        rename(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Put the folder's names on the disk, where the file system can do that with a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def rename(old: Path, new: Path) -> None:
    """In one folder, and in this order on the disk: what is renamed later is never there without this."""
    os.replace(old, new)
    sync_folder(new.parent)


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
