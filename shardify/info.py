"""What a shards folder holds, without opening a shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from shardify.index import SPLITS, read_index, read_rows

# Column of samples.csv → what a clip has where the cell says neither 0 nor "none" (older tables have none), and a hint.
REMARKS = {
    "decode_errors": ("decode errors", "--strict refuses such videos"),
    "repeated_frames": ("repeated pictures", "the videos are short, or their times have gaps"),
    "hdr": ("HDR", "decoded without tone mapping"),
}


def describe(folder: Path) -> dict:
    """Counts, sizes and settings of a finished folder. Raises FormatError."""
    index, rows = read_index(folder), read_rows(folder)
    splits = {}
    for number, name in enumerate(SPLITS):
        part = index.meta["splits"][name]
        labels = index.samples["label"][index.samples["split"] == number]
        counts = np.bincount(labels, minlength=len(index.classes))
        splits[name] = {
            "clips": part["samples"],
            "classes": dict(zip(index.classes, map(int, counts), strict=True)),
            "failed": part["failed"],
            "shards": len(part["shards"]),
            "bytes": sum(shard["bytes"] for shard in part["shards"]),
        }
    return {
        "folder": str(folder),
        "version": index.meta["version"],
        "clips": len(index.samples),
        "groups": len(np.unique(index.samples["group"])),
        "bytes": sum(split["bytes"] for split in splits.values()),
        "classes": index.classes,
        "splits": splits,
        "failed": index.meta["failed"],
        "failures": dict(Counter(row["error"] for row in rows if row["status"] == "failed")),
        "remarks": dict(count_remarks(rows)),
        "settings": index.settings,
    }


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


def clip_table(clips: dict[str, dict[str, int]], classes: list[str]) -> list[str]:
    """Lines of a table: clips per split and class."""
    head = ["split", *classes, "total"]
    body = [
        [split, *(counts.get(name, 0) for name in classes), sum(counts.values())] for split, counts in clips.items()
    ]
    rows = [[str(cell) for cell in row] for row in [head, *body]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return [
        "  "
        + "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]


def failure_lines(failures: Counter, limit: int = 10) -> list[str]:
    lines = [f"  {count:>6}  {reason}" for reason, count in failures.most_common(limit)]
    if len(failures) > limit:
        lines.append(f"  …and {len(failures) - limit} more reasons; see samples.csv")
    return lines


def human_bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
