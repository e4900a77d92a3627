"""The only reader of tars: members of a plain one by their headers, or of the folder that it was unpacked to.

Nothing is extracted, and no size is believed before it is checked.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shardify.errors import FormatError
from shardify.storage.address import Address
from shardify.storage.base import Reader, SequentialReader
from shardify.storage.local import list_names
from shardify.storage.place import open_reader

BLOCK = 512
MAX_NOTE_BYTES = 65_536  # of a member that only describes the next one (pax and GNU long names)
REGULAR, FOLDER, LONG_NAME, PAX, PAX_GLOBAL = b"0\0", b"5", b"L", b"x", b"g"


@dataclass(frozen=True)
class TarMember:
    name: str
    offset: int  # bytes, of the content
    length: int


@dataclass(frozen=True)
class Archive:
    """A tar or a folder that is open for reading."""

    path: Path | Address
    members: Iterator[TarMember]  # raises FormatError
    read: Callable[[TarMember, int], bytes]  # a member's first bytes, so many at most


@contextlib.contextmanager
def open_archive(path: Path | Address) -> Iterator[Archive]:
    """A tar, or the folder that it was unpacked to; of a remote one, members are read in its order. Raises OSError."""
    if isinstance(path, Path) and path.is_dir():
        yield Archive(path, _list_files(path), lambda member, most: _read_file(path / member.name, most))
        return
    with open_reader(path) as file:
        reader = SequentialReader(file) if isinstance(path, Address) else file
        members = list_members(path, reader)
        yield Archive(path, members, lambda member, most: reader.read(member.offset, min(member.length, most)))


def _list_files(folder: Path) -> Iterator[TarMember]:
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
            yield TarMember(path.relative_to(folder).as_posix(), 0, status.st_size)


def _read_file(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        return file.read(most)


def list_members(path: Path | Address, reader: Reader) -> Iterator[TarMember]:
    """The regular members of an open, uncompressed tar, in its order.

    Raises FormatError for anything else: links, sparse or compressed members, sizes beyond the end, no end mark.
    """
    end, position, name = reader.size, 0, None
    while True:
        header = reader.read(position, BLOCK)
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
            note = reader.read(content, length)
            if kind == LONG_NAME:
                name = note.rstrip(b"\0").decode("utf-8", "replace")
            else:
                name = _pax_name(path, note, position) or name
        elif kind in REGULAR:
            yield TarMember(name or _plain_name(header), content, length)
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


def read_members(path: Path | Address, reader: Reader) -> Iterator[tuple[str, int, bytes]]:
    """(name, offset, bytes) of an open tar's members as far as they can be read."""
    with contextlib.suppress(FormatError):
        for member in list_members(path, reader):
            yield member.name, member.offset, reader.read(member.offset, member.length)


def read_shard(path: Path) -> Iterator[tuple[str, int, bytes]]:
    """(name, offset, bytes) of a shard's members as far as they can be read, be it a tar or unpacked, or not there."""
    unpacked = path.with_suffix("")
    if path.is_file():
        with open_reader(path) as reader:
            yield from read_members(path, reader)
    elif unpacked.is_dir():
        for name in list_names(unpacked):
            if (unpacked / name).is_file():
                yield name, 0, (unpacked / name).read_bytes()


def read_clip(path: Path, key: str, extension: str) -> tuple[bytes, dict]:
    """A clip's payload and what its JSON says, from a tar or from the folder that Kaggle has made of it."""
    payload, notes = f"{key}.{extension}", f"{key}.json"
    unpacked = path.with_suffix("")
    try:
        with open_archive(unpacked if unpacked.is_dir() and not path.is_file() else path) as archive:
            found = {
                member.name: archive.read(member, member.length)
                for member in archive.members
                if member.name in (payload, notes)
            }
        return found[payload], json.loads(found[notes])
    except (OSError, KeyError, ValueError, RecursionError) as error:
        raise FormatError(f"{path}: clip {key} cannot be read ({error}); build or copy the folder again") from error
