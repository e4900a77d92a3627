"""Text for people: sizes, durations and tables in words; what others have written, made fit to be shown."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

# What a terminal obeys instead of showing it: controls, line ends, directions of writing, half characters.
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

# Column of samples.csv → what a clip has where the cell says neither 0 nor "none" (older tables have none), and a hint.
REMARKS = {
    "decode_errors": ("decode errors", "--strict refuses such videos"),
    "repeated_frames": ("repeated pictures", "the videos are short, or their times have gaps"),
    "hdr": ("HDR", "decoded without tone mapping"),
    "audio_errors": ("damaged sound", "what could be decoded of it stands at its own time"),
}

SILENT_DB = -200.0  # level of digital silence


def printable(line: str) -> str:
    """The line with its control characters as escapes, `\\x1b` for one."""
    return CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), line)


def count_remarks(rows: Iterable[Mapping]) -> Counter:
    """Clips by column of REMARKS."""
    return Counter(column for row in rows for column in REMARKS if row.get(column, "") not in ("", 0, "0", "none"))


def remark_lines(remarks: Mapping[str, int]) -> list[str]:
    """A line for each column that has any."""
    return [
        f"clips with {what}: {remarks[column]} (column {column} of samples.csv; {hint})"
        for column, (what, hint) in REMARKS.items()
        if remarks.get(column)
    ]


def count_sound(rows: Iterable[Mapping], highest: float) -> Counter:
    """Clips with sound, without, of digital silence, and of a rate too low for `highest` Hz; empty where none is kept.

    rows: of samples.csv.
    """
    counts = Counter()
    for row in rows:
        if row.get("has_audio", "") == "":
            continue
        has_sound = str(row["has_audio"]) == "True"
        counts["with" if has_sound else "without"] += 1
        counts["silent"] += has_sound and float(row["audio_level_db"]) <= SILENT_DB
        counts["narrow"] += has_sound and int(row["audio_source_rate"]) < 2 * highest
    return counts


def sound_lines(counts: Mapping[str, int]) -> list[str]:
    """What `count_sound` has found, in words."""
    if not counts:
        return []
    silent = f" ({counts['silent']} of them digital silence)" if counts.get("silent") else ""
    lines = [f"sound: {counts.get('with', 0)} clips with{silent}, {counts.get('without', 0)} without"]
    if counts.get("narrow"):
        lines.append(
            f"warning: {counts['narrow']} clips were recorded at too low a rate for the highest bands, which hold "
            "nothing there (column audio_source_rate of samples.csv; --audio-high)"
        )
    return lines


def clip_tables(clips: Mapping[str, Mapping[str, Mapping[str, int]]], classes: Mapping[str, list[str]]) -> list[str]:
    """Lines of a table for each head: clips per split and class.

    clips: by head, split and class, unlabelled ones at "". classes: of each head. One head goes without its name.
    """
    lines = []
    for head, splits in clips.items():
        names = [*classes[head], *([""] if any(counts.get("") for counts in splits.values()) else [])]
        top = ["split" if len(clips) == 1 else head, *(name or "unlabelled" for name in names), "total"]
        body = [
            [split, *(counts.get(name, 0) for name in names), sum(counts.values())] for split, counts in splits.items()
        ]
        lines += table_lines([top, *body])
    return lines


def table_lines(rows: Iterable[Iterable], align: Callable[[str, int], str] = str.rjust) -> list[str]:
    """Lines of a table whose rows have equally many cells; the first column is set to the left, the others by `align`.

    align: str.rjust or str.ljust.
    """
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            ["  " + row[0].ljust(widths[0]), *(align(cell, w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in rows
    ]


def failure_lines(failures: Counter, table: str = "samples.csv", limit: int = 10) -> list[str]:
    """How many inputs failed for each reason, the most frequent ones; `table` has them all."""
    lines = [f"  {count:>6}  {reason}" for reason, count in failures.most_common(limit)]
    if len(failures) > limit:
        lines.append(f"  …and {len(failures) - limit} more reasons; see {table}")
    return lines


def human_bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """45 s, 12 min, 3.5 h"""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
