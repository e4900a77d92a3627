"""Members of a plain tar by their headers, or of the folder it was unpacked to.

Nothing is extracted, and no size is believed before it is checked.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shardify.errors import FormatError

BLOCK = 512
MAX_NOTE_BYTES = 65_536  # of a member that only describes the next one (pax and GNU long names)
REGULAR, FOLDER, LONG_NAME, PAX, PAX_GLOBAL = b"0\0", b"5", b"L", b"x", b"g"


@dataclass(frozen=True)
class Member:
    name: str
    offset: int  # bytes, of the content
    length: int


@dataclass(frozen=True)
class Archive:
    """A tar or a folder that is open for reading."""

    path: Path
    members: Iterator[Member]  # raises FormatError
    read: Callable[[Member, int], bytes]  # a member's first bytes, so many at most


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    if path.is_dir():
        yield Archive(path, _list_files(path), lambda member, most: _read_file(path / member.name, most))
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        members = list_members(path, descriptor)
        yield Archive(path, members, lambda member, most: read_at(descriptor, member.offset, min(member.length, most)))
    finally:
        os.close(descriptor)


def _list_files(folder: Path) -> Iterator[Member]:
    """The files of a folder and its sub-folders by name, those of a sample beside each other."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode):
                raise FormatError(f"{path}: is no plain file; only those are read")
            if any(0xDC80 <= ord(letter) <= 0xDCFF for letter in name):
                raise FormatError(f"{folder}: the name {name!a} is not UTF-8; rename that file")
            yield Member(path.relative_to(folder).as_posix(), 0, status.st_size)


def _read_file(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        return file.read(most)


def read_at(descriptor: int, offset: int, length: int) -> bytes:
    return os.pread(descriptor, length, offset)


def list_members(path: Path, descriptor: int) -> Iterator[Member]:
    """The regular members of an open, uncompressed tar, in its order.

    Raises FormatError for anything else: links, sparse or compressed members, sizes beyond the end, no end mark.
    """
    end, position, name = os.fstat(descriptor).st_size, 0, None
    while True:
        header = read_at(descriptor, position, BLOCK)
        if len(header) < BLOCK:
            raise FormatError(f"{path}: ends without an end mark at byte {position}: it is cut short; copy it again")
        if header == bytes(BLOCK):
            return
        kind, length = _check_header(path, header, position)
        content = position + BLOCK
        if content + length > end:
            raise FormatError(
                f"{path}: a member at byte {position} claims {length} bytes, {end - content} are left; copy it again"
            )
        if kind in PAX + PAX_GLOBAL + LONG_NAME:
            if length > MAX_NOTE_BYTES:
                raise FormatError(f"{path}: a header at byte {position} takes {length} bytes; write the tar again")
            note = read_at(descriptor, content, length)
            if kind == LONG_NAME:
                name = note.rstrip(b"\0").decode("utf-8", "replace")
            else:
                name = _pax_name(path, note, position) or name
        elif kind in REGULAR:
            yield Member(name or _plain_name(header), content, length)
            name = None
        elif kind == FOLDER:
            name = None
        else:
            raise FormatError(f"{path}: {_plain_name(header)} is no plain file (type {kind!r}); only those are read")
        position = content + -(-length // BLOCK) * BLOCK


def _check_header(path: Path, header: bytes, position: int) -> tuple[bytes, int]:
    """Type and length of a member."""
    try:
        checksum, length = int(header[148:156].strip(b"\0 "), 8), int(header[124:136].strip(b"\0 ") or b"0", 8)
    except ValueError:
        checksum = length = -1
    if checksum != sum(header[:148]) + 8 * 32 + sum(header[156:]) or length < 0:
        raise FormatError(f"{path}: holds no tar header at byte {position}; it is compressed, damaged or no tar")
    return header[156:157], length


def _plain_name(header: bytes) -> str:
    name, prefix = (part.partition(b"\0")[0].decode("utf-8", "replace") for part in (header[:100], header[345:500]))
    return f"{prefix}/{name}" if header[257:262] == b"ustar" and prefix else name


def _pax_name(path: Path, note: bytes, position: int) -> str | None:
    """The name among a pax header's records `length key=value`; anything that changes a size is refused."""
    name = None
    while note:
        size, _, _ = note.partition(b" ")
        if not size.isdigit() or not 0 < int(size[:9]) <= len(note):
            raise FormatError(f"{path}: a header at byte {position} is damaged; copy it again")
        key, _, value = note[len(size) + 1 : int(size) - 1].partition(b"=")
        if key == b"size" or key.startswith(b"GNU.sparse"):
            raise FormatError(f"{path}: a member at byte {position} is sparse or huge; only plain files are read")
        if key == b"path":
            name = value.decode("utf-8", "replace")
        note = note[int(size) :]
    return name


def read_tar(path: Path) -> Iterator[tuple[str, int, bytes]]:
    """(name, offset, bytes) of the members, as far as they can be read; no size is believed before it is checked."""
    size = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.type != tarfile.REGTYPE or member.offset_data + member.size > size:
                    return
                yield member.name, member.offset_data, tar.extractfile(member).read()
    except tarfile.TarError:
        return


def read_shard(folder: Path, name: str) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of a shard's members, be it a tar or unpacked; as far as they can be read."""
    tar, unpacked = folder / name, (folder / name).with_suffix("")
    if tar.is_file():
        yield from ((member, content) for member, _, content in read_tar(tar))
    elif unpacked.is_dir():
        yield from ((path.name, path.read_bytes()) for path in sorted(unpacked.iterdir()) if path.is_file())


def read_members(path: Path) -> dict[str, dict[str, bytes]]:
    """All members of a sound shard: key → extension → bytes."""
    found: dict[str, dict[str, bytes]] = {}
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            key, _, extension = member.name.partition(".")
            found.setdefault(key, {})[extension] = tar.extractfile(member).read()
    return found


def read_clip(path: Path, key: str, extension: str) -> tuple[bytes, dict]:
    """A clip's payload and what its JSON says, from a tar or from the folder that Kaggle has made of it."""
    payload, notes = f"{key}.{extension}", f"{key}.json"
    unpacked = path.with_suffix("")
    try:
        if unpacked.is_dir() and not path.is_file():
            if not all((unpacked / name).is_file() for name in (payload, notes)):
                raise ValueError("it is not there")
            return (unpacked / payload).read_bytes(), json.loads((unpacked / notes).read_bytes())
        with tarfile.open(path, "r:") as tar:
            return _extract(tar, payload), json.loads(_extract(tar, notes))
    except (OSError, KeyError, ValueError, RecursionError, tarfile.TarError) as error:
        raise FormatError(f"{path}: clip {key} cannot be read ({error}); build or copy the folder again") from error


def _extract(tar: tarfile.TarFile, name: str) -> bytes:
    """A member's bytes; a link, or a sparse file that would fill the memory, is none."""
    member = tar.getmember(name)
    if member.type != tarfile.REGTYPE or member.sparse is not None:
        raise ValueError(f"{name} is no plain file")
    return tar.extractfile(member).read()
