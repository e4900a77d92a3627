"""Text that others have written, made fit for a terminal and for a spreadsheet."""

from __future__ import annotations

import re

# What a terminal obeys instead of showing it: controls, line ends, directions of writing, half characters.
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
FORMULA = re.compile("'*[=+@\t\r\n-]")  # what a spreadsheet computes
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")


def printable(line: str) -> str:
    """The line with its control characters as escapes, `\\x1b` for one."""
    return CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), line)


def as_cell(value: object) -> object:
    """A value for a CSV that people open in a spreadsheet: text that would be a formula there begins with a quote."""
    is_formula = isinstance(value, str) and FORMULA.match(value) and not NUMBER.fullmatch(value)
    return f"'{value}" if is_formula else value


def from_cell(text: str) -> str:
    """The text that `as_cell` was given."""
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text
