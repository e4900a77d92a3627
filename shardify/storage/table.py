"""CSV tables: written so that no cell is a formula for a spreadsheet, and read with that taken back."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

TABLE_ERRORS = (OSError, UnicodeDecodeError, csv.Error)  # what reading a table may raise
FORMULA = re.compile("'*[=+@\t\r\n-]")  # what a spreadsheet computes
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")


class TableWriter:
    """Writes a table's head and then its rows to a text file, every line ended by one line feed.

    Text that would be a formula begins with a quote. What a row has beyond `columns` is left out.
    """

    def __init__(self, file: TextIO, columns: Sequence[str]) -> None:
        self._file = file
        # the csv module quotes a carriage return only where line ends hold one, so they do until `write`
        self._writer = csv.DictWriter(self, columns, lineterminator="\r\n", extrasaction="ignore", restval="")
        self._writer.writeheader()

    def write_row(self, row: Mapping[str, object]) -> None:
        self._writer.writerow({name: as_cell(value) for name, value in row.items()})

    def write(self, line: str) -> None:
        self._file.write(line.removesuffix("\r\n") + "\n")


def table_bytes(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> bytes:
    """A whole table as UTF-8."""
    buffer = io.StringIO(newline="")
    writer = TableWriter(buffer, columns)
    for row in rows:
        writer.write_row(row)
    return buffer.getvalue().encode("utf-8")


def read_csv(
    lines: Iterable[str], columns: Sequence[str] | None = None, **format: object
) -> tuple[list[dict[str, str]], tuple[str, ...]]:
    """The rows as they stand, and the names of the columns: those of the first line, unless they are given.

    lines: a file opened with newline="". format: as of csv.reader. A row that is too long has a list at the key None,
    one that is too short None as a value. Raises TABLE_ERRORS.
    """
    reader = csv.DictReader(lines, columns, **format)
    rows = list(reader)
    return rows, tuple(reader.fieldnames or ())


def as_cell(value: object) -> object:
    """A value for a CSV that people open in a spreadsheet: text that would be a formula there begins with a quote."""
    is_formula = isinstance(value, str) and FORMULA.match(value) and not NUMBER.fullmatch(value)
    return f"'{value}" if is_formula else value


def from_cell(text: str) -> str:
    """The text that `as_cell` was given."""
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text
