"""CSV tables as people write them: manifests, boxes, lists of videos."""

from __future__ import annotations

from pathlib import Path

from shardify.errors import UsageError
from shardify.storage.table import TABLE_ERRORS, read_csv

DELIMITERS = ",;\t"


def read_table(path: Path) -> tuple[list[dict], tuple[str, ...]]:
    """The rows, and the names of the columns in lower case. Blanks around cells and a byte order mark are left out.

    Cells are divided by what the first line has most of: commas, semicolons or tabs. A row that is too short has None
    as a value. Raises UsageError where it is no CSV.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            delimiter = max(DELIMITERS, key=first.count)
            rows, columns = read_csv(file, delimiter=delimiter, skipinitialspace=True)
    except TABLE_ERRORS as error:
        raise UsageError(f"{path}: cannot be read as CSV ({error})") from error
    for number, row in enumerate(rows):
        rows[number] = {_clean(column, lower=True): _clean(value) for column, value in row.items()}
    return rows, tuple(_clean(column, lower=True) for column in columns)


def _clean(cell: object, lower: bool = False) -> object:
    """A cell without blanks around it; what is no text (None, a row's surplus) as it is."""
    if not isinstance(cell, str):
        return cell
    return cell.strip().lower() if lower else cell.strip()
