"""A manifest: a CSV table with a row for every input, as people write it."""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath

from shardify.errors import UsageError
from shardify.format.words import split_of
from shardify.sources.entries import is_picture_name
from shardify.sources.layouts.names import one_spelling
from shardify.sources.names import NamesOnDisk
from shardify.sources.source import SoundFile, Source
from shardify.sources.table import read_table
from shardify.video.piece import Piece, split_piece


def read_manifest(data: Path, manifest: Path) -> tuple[dict[str, dict], list[Source], tuple[str, ...], list[str]]:
    """Its rows by source, their sources, the names of its columns, and lines for the user. Raises UsageError."""
    rows, columns = read_table(manifest)
    if "class" not in columns and "label" in columns:
        columns = tuple("class" if column == "label" else column for column in columns)
        rows = [{"class" if column == "label" else column: value for column, value in row.items()} for row in rows]
    for column in ("path", "class"):
        if column not in columns:
            raise UsageError(f"{manifest}: has no column {column} (found: {', '.join(columns) or 'none'})")
    by_source: dict[str, dict] = {}
    sources, names, turned = [], NamesOnDisk(data, "manifest"), []
    for number, row in enumerate(rows, 2):
        where = f"{manifest} row {number}"
        source = _source_of(data, row, where)
        if source.source != PurePosixPath(row["path"]).as_posix() and "\\" in row["path"]:
            turned.append(row["path"])
        name = source.source if source.error else names.match(source.source)
        sound = _sound(data, row, names, where)
        source = replace(source, path=data / name, source=f"{name}{_piece(row, where)}", sound=sound)
        if source.source in by_source:
            raise UsageError(f"{where}: {source.source} is listed twice; remove one")
        by_source[source.source] = row
        sources.append(source)
    spelling, lines = one_spelling(Counter(source.class_name for source in sources))
    sources = [replace(source, class_name=spelling[source.class_name]) for source in sources]
    sources.sort(key=lambda source: os.fsencode(source.source))
    notes = [*names.notes(), *lines]
    if turned:
        notes.append(f"backslashes of {len(turned)} paths of the manifest are read as slashes; first: {turned[0]}")
    return by_source, sources, columns, notes


def _source_of(data: Path, row: dict, where: str) -> Source:
    if any(row.get(column) is None for column in ("path", "class")):
        raise UsageError(f"{where}: has too few columns")
    if not row["path"] or not row["class"]:
        raise UsageError(f"{where}: path and class must not be empty")
    split = row.get("split") or None
    if split is not None and not split_of(split):
        raise UsageError(f"{where}: split is {split}; it must be train, val, test or empty")
    name, error = _inside(data, row["path"]), None
    if _leads_out(name):
        error = "its path leads out of the data folder; give a path relative to it"
    elif _leads_out(_inside(data, row.get("audio") or "")):
        error = "the path of its sound leads out of the data folder; give a path relative to it"
    elif split_piece(name)[1]:
        error = "its name ends as that of a piece of a video does; rename it, or use the columns start and end"
    elif is_picture_name(PurePosixPath(name)) and (row.get("start") or row.get("end")):
        error = "is a picture, which has no start and end"
    source = PurePosixPath(name).as_posix()
    return Source(
        data / source,
        source,
        row["class"],
        split and split_of(split),
        row.get("group") or None,
        _number(row, "target", where),
        error,
        row.get("kind") or "",
    )


def _inside(data: Path, name: str) -> str:
    """The path relative to the data folder, where it is an absolute one into it or has backslashes."""
    if "\\" in name and not os.path.lexists(data / name):
        name = name.replace("\\", "/")
    for root in (data.absolute(), data.resolve()):
        if name.startswith("/") and PurePosixPath(name).is_relative_to(root):
            return PurePosixPath(name).relative_to(root).as_posix()
    return name


def _leads_out(name: str) -> bool:
    return name.startswith("/") or ".." in PurePosixPath(name).parts or "\0" in name


def _sound(data: Path, row: dict, names: NamesOnDisk, where: str) -> SoundFile | None:
    """The file beside the video that its sound is in."""
    if not row.get("audio"):
        return None
    offset = _number(row, "audio_offset", where) or 0.0
    name = PurePosixPath(_inside(data, row["audio"])).as_posix()
    name = name if _leads_out(name) else names.match(name)
    return SoundFile(data / name, name, offset)


def _piece(row: dict, where: str) -> Piece | str:
    """The piece of the video that a row is; an empty text where it is all of it."""
    start, end = row.get("start") or "", row.get("end") or ""
    if not (start or end):
        return ""
    if not (start and end):
        raise UsageError(f"{where}: has {'a start, but no end' if start else 'an end, but no start'}; give both")
    try:
        return Piece.of(start, end)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error


def _number(row: dict, column: str, where: str) -> float | None:
    try:
        number = float(row[column]) if row.get(column) else None
    except ValueError as bad:
        raise UsageError(f"{where}: {column} is {row[column]}; it must be a number") from bad
    if number is not None and not math.isfinite(number):
        raise UsageError(f"{where}: {column} is {row[column]}; it must be a finite number, or empty")
    return number
