"""The inputs of a build: every video below a data folder, or every row of a manifest, in a fixed order."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from shardify.errors import NothingToBuildError, UsageError
from shardify.format.schema import SPLITS
from shardify.sources.entries import VIDEO_EXTENSIONS, Entries, is_video_name
from shardify.sources.names import NamesOnDisk
from shardify.sources.table import read_table

SHOWN = 10  # endings of other files
SPLIT_NAMES = {name: name for name in SPLITS} | {"valid": "val", "validation": "val"}


@dataclass(frozen=True)
class Source:
    """One input: a directory entry that looks like a video, or a row of the manifest."""

    path: Path
    source: str  # path relative to the data folder, `/` between folders; its identity
    class_name: str
    split: str | None  # as laid out by the user; None: to be assigned
    group: str | None = None
    target: float | None = None
    error: str | None = None  # why it cannot be used, where its place or name says so already

    @property
    def key(self) -> str:
        """A readable stem and 64 bits of a hash of the path: `[A-Za-z0-9_-]+`, never a dot."""
        stem = re.sub(r"[^A-Za-z0-9_-]+", "_", PurePosixPath(self.source).stem)[:48].lstrip("-") or "clip"
        return f"{stem}-{hashlib.sha256(os.fsencode(self.source)).hexdigest()[:16]}"


@dataclass(frozen=True)
class Catalog:
    sources: list[Source]  # sorted by path
    ignored: int = 0  # directory entries without a video's extension
    columns: tuple[str, ...] = ()  # of the manifest
    rows: dict[str, dict] = field(default_factory=dict)  # of the manifest, by source
    originals: dict[str, str] = field(default_factory=dict)  # DFDC's metadata.json: fake → original, file names
    notes: tuple[str, ...] = ()  # what the user should know about the layout


def list_sources(data: Path, manifest: Path | None = None) -> Catalog:
    """Every input below `data`, or every row of `manifest`.

    Raises UsageError for a folder or manifest that cannot be understood, NothingToBuildError for an empty one.
    """
    if not data.is_dir():
        raise UsageError(f"{data}: is not a folder; pass the folder that holds the videos")
    catalog = _from_manifest(data, manifest) if manifest else _from_folder(data)
    if not catalog.sources:
        where = manifest or data
        known = f"known extensions: {' '.join(sorted(VIDEO_EXTENSIONS))}"
        raise NothingToBuildError(f"{where}: holds no video ({'; '.join([*catalog.notes, known])})")
    if all(source.error for source in catalog.sources):
        first = catalog.sources[0]
        raise NothingToBuildError(
            f"{data}: none of {len(catalog.sources)} videos can be used; the first: {first.source}: {first.error}"
        )
    return catalog


def order_classes(names: set[str], known: tuple[str, ...] = ()) -> list[str]:
    """Class names by index: those of an existing build first, real = 0 and fake = 1, else alphabetical."""
    rank = {"real": 0, "fake": 1}
    both = {name.lower() for name in names | set(known)} == set(rank)
    fresh = sorted(names - set(known), key=lambda name: (rank[name.lower()] if both else 0, name))
    return [*known, *fresh]


def _from_folder(data: Path) -> Catalog:
    found, originals, ignored, entries = [], {}, Counter(), Entries(data)
    for path in entries:
        if is_video_name(path):
            found.append(path.relative_to(data).as_posix())
        elif not path.is_dir():
            ignored[printable(path.suffix.lower()) or "no ending"] += 1
            if path.name == "metadata.json":
                originals |= _dfdc_originals(path)
    found.sort(key=os.fsencode)
    has_splits = any(name.split("/")[0] in SPLIT_NAMES and name.count("/") >= 2 for name in found)
    sources = [_place(data, name, has_splits) for name in found]
    present = {source.split for source in sources if source.split}
    notes = [f"{data}/{name} is missing" for name in SPLITS if has_splits and name not in present]
    if ignored:
        notes.append(_ignored_line(ignored))
    return Catalog(sources, ignored.total(), originals=originals, notes=(*notes, *entries.notes()))


def _ignored_line(endings: Counter) -> str:
    """How many files are not named like a video, and how most of them end."""
    most = sorted(endings.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]
    shown = ", ".join(f"{ending} {count}" for ending, count in most)
    more = f" and {len(endings) - SHOWN} more kinds" if len(endings) > SHOWN else ""
    return f"ignored {endings.total()} other files: {shown}{more}"


def _place(data: Path, name: str, has_splits: bool) -> Source:
    *folders, _ = name.split("/")
    split, error = None, unusable_name(name)
    if has_splits:
        split = SPLIT_NAMES.get(folders[0]) if folders else None
        if split is None:
            error = error or "lies beside train/, val/ and test/; move it into one of them"
        folders = folders[1:]
    if not folders:
        error = error or "lies in no class folder; move it into a folder named after its class"
    return Source(data / name, printable(name), printable(folders[0]) if folders else "", split, error=error)


def unusable_name(name: str) -> str | None:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "its name is not UTF-8; rename it"
    return None


def printable(name: str) -> str:
    """The name itself; where it is not UTF-8, one that can be written, with a hash that keeps it apart from others."""
    raw = os.fsencode(name)
    mark = f" ({hashlib.sha256(raw).hexdigest()[:8]})" if unusable_name(name) else ""
    return raw.decode("utf-8", "backslashreplace") + mark


def _dfdc_originals(path: Path) -> dict[str, str]:
    """fake → original by file name, from a metadata.json of the DFDC data set; nothing from any other."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return {}
    found = {}
    for name, entry in entries.items() if isinstance(entries, dict) else ():
        original = entry.get("original") if isinstance(entry, dict) else None
        if isinstance(original, str) and original and not unusable_name(original):
            found[name] = original
    return found


def _from_manifest(data: Path, manifest: Path) -> Catalog:
    rows, columns = read_table(manifest)
    for column in ("path", "class"):
        if column not in columns:
            raise UsageError(f"{manifest}: has no column {column} (found: {', '.join(columns) or 'none'})")
    by_source: dict[str, dict] = {}
    sources, names = [], NamesOnDisk(data, "manifest")
    for number, row in enumerate(rows, 2):
        source = _manifest_source(data, row, f"{manifest} row {number}")
        name = source.source if source.error else names.match(source.source)
        source = replace(source, path=data / name, source=name)
        if source.source in by_source:
            raise UsageError(f"{manifest} row {number}: {source.source} is listed twice; remove one")
        by_source[source.source] = row
        sources.append(source)
    sources.sort(key=lambda source: os.fsencode(source.source))
    return Catalog(sources, columns=columns, rows=by_source, notes=tuple(names.notes()))


def _manifest_source(data: Path, row: dict, where: str) -> Source:
    if any(row.get(column) is None for column in ("path", "class")):
        raise UsageError(f"{where}: has too few columns")
    name, class_name = row["path"].strip(), row["class"].strip()
    if not name or not class_name:
        raise UsageError(f"{where}: path and class must not be empty")
    split = (row.get("split") or "").strip() or None
    if split is not None and split not in SPLIT_NAMES:
        raise UsageError(f"{where}: split is {split}; it must be train, val, test or empty")
    parts = PurePosixPath(name).parts
    error = None
    if name.startswith("/") or ".." in parts or "\0" in name:
        error = "its path leads out of the data folder; give a path relative to it"
    try:
        target = float(row["target"]) if (row.get("target") or "").strip() else None
    except ValueError as bad:
        raise UsageError(f"{where}: target is {row['target']}; it must be a number") from bad
    if target is not None and not math.isfinite(target):
        raise UsageError(f"{where}: target is {row['target']}; it must be a finite number, or empty")
    source = PurePosixPath(name).as_posix()
    return Source(
        data / source,
        source,
        class_name,
        SPLIT_NAMES.get(split),
        (row.get("group") or "").strip() or None,
        target,
        error,
    )
