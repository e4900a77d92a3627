"""What a terminal cannot show, for the entry points of both packages."""

from __future__ import annotations

import io
import sys


def escape_unprintable() -> None:
    """Print \\x… and \\u… for what the encoding of standard output lacks, as the interpreter does on standard error.

    So a name in any script is no traceback, nor one that is not UTF-8. Streams of other kinds stay as they are.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
