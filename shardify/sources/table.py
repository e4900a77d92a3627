"""CSV tables that people write: manifests and boxes."""

from __future__ import annotations

from pathlib import Path

from shardify.errors import UsageError
from shardify.storage.table import TABLE_ERRORS, read_csv


def read_table(path: Path) -> tuple[list[dict], tuple[str, ...]]:
    """The rows and the names of the columns; a byte order mark is left out. Raises UsageError where it is no CSV."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return read_csv(file)
    except TABLE_ERRORS as error:
        raise UsageError(f"{path}: cannot be read as CSV ({error})") from error
