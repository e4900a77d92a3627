"""The mark of a synthetic picture: a comment in its PNG or JPEG file, by which a build keeps it out of val and test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

KEYWORD = "comment"  # of the PNG's text; programs that make a JPEG of it carry such a text over as its comment
MARK = "synthetic picture"  # how the text begins
KIND = "synthetic"  # what a clip's record has as its `kind`: what made it
LONGEST = 1024  # bytes of a comment that are read
MOST_PARTS = 1_000_000  # of a PNG; 8 kB each are common

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
JPEG_COMMENT, JPEG_ENDS = 0xFE, (0xD9, 0xDA)  # no comment comes after the picture's data has begun


def is_synthetic(file: BinaryIO) -> bool:
    """Whether a picture's open file has the mark; False for what is neither PNG nor JPEG, or damaged.

    Only the headers of the file's parts are read, and its comments (PNG, third edition, 11.3.3; JPEG, T.81, B.2.4.5).
    """
    file.seek(0)
    head = file.read(len(PNG))
    comments = _png_comments(file) if head == PNG else _jpeg_comments(file) if head.startswith(JPEG) else ()
    return any(MARK.encode() in comment for comment in comments)


def _png_comments(file: BinaryIO) -> Iterator[bytes]:
    place = len(PNG)
    for _ in range(MOST_PARTS):
        head = _read(file, place, 8)
        if len(head) < 8:
            return
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind in PNG_TEXTS:
            keyword, _, text = _read(file, place + 8, min(length, LONGEST)).partition(b"\0")
            if keyword.decode("latin-1").lower() == KEYWORD:
                yield text
        place += 8 + length + 4  # the last 4 are a checksum


def _jpeg_comments(file: BinaryIO) -> Iterator[bytes]:
    place = len(JPEG)
    while len(head := _read(file, place, 4)) == 4 and head[0] == 0xFF and head[1] not in JPEG_ENDS:
        length = int.from_bytes(head[2:], "big")  # counts its own 2 bytes
        if head[1] == JPEG_COMMENT:
            yield _read(file, place + 4, min(max(0, length - 2), LONGEST))
        place += 2 + length


def _read(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)
