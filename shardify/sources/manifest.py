"""A manifest: a CSV table with a row for every input, as people write it, or a folder with one for each split."""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from shardify.errors import UsageError
from shardify.format.records import PRIMARY
from shardify.format.schema import NAME
from shardify.format.synthetic import KIND
from shardify.format.words import split_of
from shardify.sources.entries import is_picture_name
from shardify.sources.layouts.names import listing, one_spelling
from shardify.sources.names import NamesOnDisk
from shardify.sources.source import SoundFile, Source
from shardify.sources.table import read_table
from shardify.video.piece import Piece, split_piece

LABEL = "label."  # what the columns of further labels begin with
MEAN = "mean"  # of the figures of several heads, as the trainer calls it
YES_OR_NO = {"": False, "0": False, "no": False, "false": False, "1": True, "yes": True, "true": True}


@dataclass(frozen=True)
class Manifest:
    """The inputs that a manifest lists."""

    rows: dict[str, dict]  # by source
    sources: list[Source]
    columns: tuple[str, ...]
    heads: tuple[str, ...]  # names of the labels, the primary one first
    notes: list[str]  # lines for the user


def read_manifest(data: Path, manifest: Path) -> Manifest:
    """What a table lists, or a folder of tables that are named after their splits. Raises UsageError."""
    rows, columns = _read_tables(manifest)
    if "class" not in columns and "label" in columns:
        columns = tuple("class" if column == "label" else column for column in columns)
        rows = [(where, {("class" if name == "label" else name): row[name] for name in row}) for where, row in rows]
    if "path" not in columns:
        raise UsageError(f"{manifest}: has no column path (found: {', '.join(columns) or 'none'})")
    heads = _label_columns(manifest, [row for _, row in rows], columns)
    by_source: dict[str, dict] = {}
    sources, names, turned = [], NamesOnDisk(data, "manifest"), []
    for where, row in rows:
        source = _source_of(data, row, heads, where)
        if source.source != PurePosixPath(row["path"]).as_posix() and "\\" in row["path"]:
            turned.append(row["path"])
        name = source.source if source.error else names.match(source.source)
        sound = _sound(data, row, names, where)
        source = replace(source, path=data / name, source=f"{name}{_piece(row, where)}", sound=sound)
        if source.source in by_source:
            raise UsageError(f"{where}: {source.source} is listed twice; remove one")
        by_source[source.source] = row
        sources.append(source)
    sources, lines = _in_one_spelling(sources)
    sources.sort(key=lambda source: os.fsencode(source.source))
    notes = [*names.notes(), *lines]
    if turned:
        notes.append(f"backslashes of {len(turned)} paths of the manifest are read as slashes; first: {turned[0]}")
    return Manifest(by_source, sources, columns, tuple(map(_head_name, heads)), notes)


def _read_tables(manifest: Path) -> tuple[list[tuple[str, dict]], tuple[str, ...]]:
    """The rows, each with its place in words, and the names of all columns; of a folder each row has its split."""
    if not manifest.is_dir():
        rows, columns = read_table(manifest)
        return [(f"{manifest} row {number}", row) for number, row in enumerate(rows, 2)], columns
    found, known, tables = [], {"split": ""}, {}
    for path in sorted(path for path in manifest.glob("*.csv") if not path.name.startswith(".")):
        split = split_of(path.stem)
        if split is None:
            raise UsageError(
                f"{path}: its name is no split; in a folder of tables they are train.csv, val.csv, test.csv"
            )
        if split in tables:
            raise UsageError(f"{path}: is of {split}, as {tables[split].name} is; join them")
        tables[split] = path
        rows, columns = read_table(path)
        known |= dict.fromkeys(columns, "")
        for number, row in enumerate(rows, 2):
            if row.get("split") and split_of(row["split"]) != split:
                raise UsageError(f"{path} row {number}: split is {row['split']}, and the table's name says {split}")
            found.append((f"{path} row {number}", {**row, "split": split}))
    if not found:
        raise UsageError(f"{manifest}: holds no row of a table train.csv, val.csv or test.csv")
    return [(where, known | row) for where, row in found], tuple(known)


def _label_columns(manifest: Path, rows: list[dict], columns: tuple[str, ...]) -> list[str]:
    """The columns that hold labels, that of the primary head first: `class`, or the first one without an empty cell."""
    own = [column for column in columns if column.startswith(LABEL)]
    if f"{LABEL}{MEAN}" in own:
        raise UsageError(
            f"{manifest}: a label cannot be named {LABEL}{MEAN}: figures of several labels have such a row"
        )
    for column in own:
        if not NAME.fullmatch(_head_name(column)) or _head_name(column) == PRIMARY:
            raise UsageError(
                f"{manifest}: a label cannot be named {column}; use letters, digits and _ after the dot, a letter "
                f"first, at most 40, and not {LABEL}{PRIMARY}, which is the column {PRIMARY}"
            )
    if PRIMARY in columns:
        return [PRIMARY, *own]
    if not own:
        raise UsageError(f"{manifest}: has no column {PRIMARY} (found: {', '.join(columns)})")
    labelled = [row for row in rows if any(row.get(column) for column in own)]
    primary = next((column for column in own if all(row.get(column) for row in labelled)), None)
    if primary is None:
        raise UsageError(
            f"{manifest}: {listing(own)} have empty cells, and one label must be known of every video; fill one column "
            f"in, or add a column {PRIMARY}"
        )
    return [primary, *(column for column in own if column != primary)]


def _head_name(column: str) -> str:
    return column.removeprefix(LABEL)


def _in_one_spelling(sources: list[Source]) -> tuple[list[Source], list[str]]:
    """The sources with classes that differ in case alone made one, head by head, and lines that say so."""
    spelling, lines = one_spelling(Counter(source.class_name for source in sources))
    sources = [replace(source, class_name=spelling[source.class_name]) for source in sources]
    for name in sources[0].labels if sources else ():
        spelling, more = one_spelling(Counter(source.labels[name] for source in sources))
        lines = [*lines, *more]
        sources = [replace(s, labels={**s.labels, name: spelling[s.labels[name]]}) for s in sources]
    return sources, lines


def _source_of(data: Path, row: dict, heads: list[str], where: str) -> Source:
    primary, *others = heads
    needed = ("path", primary) if primary == PRIMARY else ("path",)
    if any(row.get(column) is None for column in needed):
        raise UsageError(f"{where}: has too few columns")
    if not all(row[column] for column in needed):
        raise UsageError(f"{where}: {listing(needed)} must not be empty")
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
    elif not row.get(primary):
        error = f"has no label; fill in {listing(heads)}, or take the row out"
    source, is_synthetic = PurePosixPath(name).as_posix(), _is_synthetic(row, where)
    return Source(
        data / source,
        source,
        row.get(primary) or "",
        split and split_of(split),
        row.get("group") or None,
        _number(row, "target", where),
        error,
        KIND if is_synthetic else row.get("kind") or "",
        labels={_head_name(column): row.get(column) or "" for column in others},
        is_synthetic=is_synthetic,
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


def _is_synthetic(row: dict, where: str) -> bool:
    said = (row.get("synthetic") or "").lower()
    if said not in YES_OR_NO:
        raise UsageError(f"{where}: synthetic is {row['synthetic']}; it must be yes, no or empty")
    return YES_OR_NO[said]


def _number(row: dict, column: str, where: str) -> float | None:
    try:
        number = float(row[column]) if row.get(column) else None
    except ValueError as bad:
        raise UsageError(f"{where}: {column} is {row[column]}; it must be a number") from bad
    if number is not None and not math.isfinite(number):
        raise UsageError(f"{where}: {column} is {row[column]}; it must be a finite number, or empty")
    return number
