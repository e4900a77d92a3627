"""Recognition of files that are no videos by their first bytes, and what to do with each kind."""

from __future__ import annotations

HEAD_BYTES = 512
STARTS = (
    (
        b"version https://git-lfs.github.com/spec/",
        "a Git LFS pointer, not the video; run git lfs pull",
    ),
    (b"<!doctype html", "a web page, not a video; download the video itself"),
    (b"<html", "a web page, not a video; download the video itself"),
    (b"<?xml", "XML, not a video; often a server's error message in its place: download it again"),
    (b"pk\x03\x04", "a zip archive, not a video; unpack it"),
    (b"\x1f\x8b", "a gzip archive, not a video; unpack it"),
    (b"rar!\x1a\x07", "a rar archive, not a video; unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive, not a video; unpack it"),
    (b"%pdf-", "a PDF document, not a video"),
)


def what_else(head: bytes) -> str | None:
    """What a file with these first bytes is, and what to do; None where they do not tell."""
    start = head[:HEAD_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((what for sign, what in STARTS if start.startswith(sign)), None)
