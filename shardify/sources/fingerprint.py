"""A source file's fingerprint: its size and a hash, which tell whether it has changed."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

MIB = 1 << 20


def source_bytes(path: Path) -> int | str:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return ""


def open_fingerprint(file: io.IOBase, size: int, whole: bool) -> str:
    """SHA-256 of the whole file, or over its size and its first, middle and last MiB: long files are soon read."""
    if whole:
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256(str(size).encode())
    for start in sorted({0, max(0, size // 2 - MIB // 2), max(0, size - MIB)}):
        file.seek(start)
        digest.update(file.read(MIB))
    return digest.hexdigest()
