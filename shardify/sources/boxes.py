"""Crop boxes from a CSV file, one per video, as any face detector may have written it."""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath

from shardify.errors import UsageError
from shardify.sources.names import NamesOnDisk
from shardify.sources.table import read_table
from shardify.video.resize import Box

COLUMNS = ("path", "x", "y", "width", "height")
NO_BOX = "has no row in the boxes file; add one, or take the video out"


def read_boxes(path: Path) -> dict[str, Box]:
    """source → (x, y, width, height) in pixels of the displayed picture.

    Columns: path,x,y,width,height and, if wanted, margin: a share of the box's width and height that is added
    on every side; others are ignored. A row without any number, as `shardify faces` writes it where it has found no
    face, gives no box. Raises UsageError with the row that is wrong.
    """
    rows, columns = read_table(path)
    missing = [column for column in COLUMNS if column not in columns]
    if missing:
        raise UsageError(f"{path}: has no column {missing[0]}; it needs {','.join(COLUMNS)}[,margin]")
    boxes: dict[str, Box] = {}
    for number, row in enumerate(rows, 2):
        source = PurePosixPath(row["path"] or "").as_posix()
        if source in boxes:
            raise UsageError(f"{path} row {number}: {source} has a second box; give one per video")
        if any(row[column] for column in COLUMNS[1:]):
            boxes[source] = _box(row, f"{path} row {number}")
    return boxes


def match_boxes(boxes: dict[str, Box], folder: Path) -> tuple[dict[str, Box], list[str]]:
    """The boxes by the names that the files in `folder` have, where only the Unicode form differs; lines that say so.

    Raises UsageError where two are of one file.
    """
    names = NamesOnDisk(folder, "boxes file")
    matched: dict[str, Box] = {}
    for source, box in boxes.items():
        name = names.match(source)
        if name in matched:
            raise UsageError(f"{folder / name}: has two boxes, under names of different Unicode forms; give one")
        matched[name] = box
    return matched, names.notes()


def _box(row: dict, where: str) -> Box:
    try:
        x, y, width, height = (float(row[column]) for column in COLUMNS[1:])
        margin = float(row.get("margin") or 0)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: x, y, width, height and margin must be numbers ({error})") from error
    if not all(map(math.isfinite, (x, y, width, height, margin))) or min(width, height) <= 0 or margin < 0:
        raise UsageError(f"{where}: width and height must be above 0, margin 0 or more, all of them finite")
    return (x - margin * width, y - margin * height, width * (1 + 2 * margin), height * (1 + 2 * margin))
