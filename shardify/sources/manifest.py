"""A manifest: a CSV table with a row for every input, as people write it."""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath

from shardify.errors import UsageError
from shardify.format.words import split_of
from shardify.sources.layouts.names import listing, one_spelling
from shardify.sources.names import NamesOnDisk
from shardify.sources.source import Source
from shardify.sources.table import read_table


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
        source = replace(source, path=data / name, source=name)
        if name in by_source:
            raise UsageError(f"{where}: {name} is listed twice; remove one")
        by_source[name] = row
        sources.append(source)
    spelling, lines = one_spelling(Counter(source.class_name for source in sources))
    sources = [replace(source, class_name=spelling[source.class_name]) for source in sources]
    sources.sort(key=lambda source: os.fsencode(source.source))
    notes = [*names.notes(), *lines]
    if unused := sorted({"start", "end"}.intersection(columns)):
        notes.append(f"warning: the manifest's {listing(unused)} are not used: clips are of whole videos")
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
    if name.startswith("/") or ".." in PurePosixPath(name).parts or "\0" in name:
        error = "its path leads out of the data folder; give a path relative to it"
    source = PurePosixPath(name).as_posix()
    return Source(
        data / source,
        source,
        row["class"],
        split and split_of(split),
        row.get("group") or None,
        _target(row, where),
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


def _target(row: dict, where: str) -> float | None:
    try:
        target = float(row["target"]) if row.get("target") else None
    except ValueError as bad:
        raise UsageError(f"{where}: target is {row['target']}; it must be a number") from bad
    if target is not None and not math.isfinite(target):
        raise UsageError(f"{where}: target is {row['target']}; it must be a finite number, or empty")
    return target
