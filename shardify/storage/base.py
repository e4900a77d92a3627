"""The contract of a storage: all that building and reading shards asks of the place where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol


class Reader(Protocol):
    """An open file of which any part can be read."""

    size: int  # bytes

    def read(self, offset: int, length: int) -> bytes:
        """So many bytes from there on, fewer where the file ends."""


class Storage(Protocol):
    """What a module beside `local` must offer, for a bucket for one; it raises OSError where something fails."""

    def open_reader(self, path: Path) -> AbstractContextManager[Reader]:
        """The file, open for reading."""

    def list_names(self, folder: Path) -> Sequence[str]:
        """The names in a folder, sorted."""

    def write_atomically(self, path: Path, payload: bytes) -> None:
        """Put a file there, whole or not at all, in place of one that is there; when this returns, it stays."""
