"""Which sources belong together, because they show the same person or scene: groups never straddle splits."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import PurePosixPath

import numpy as np

from shardify.catalog import Catalog, Source
from shardify.errors import UsageError

# Public data sets whose file names say who is in a clip: one identity, or two in a fake.
KNOWN_NAMES = {
    "FaceForensics++": re.compile(r"^(\d{3})(?:_(\d{3}))?$"),
    "Celeb-DF": re.compile(r"^(id\d+)(?:_(id\d+))?_\d{4}$"),
    "DeepFakeDetection": re.compile(r"^(\d\d)(?:_(\d\d))?__"),
}
MIN_SWALLOWED = 10  # smaller groups are never too large


def group_names(catalog: Catalog, group_by: str | None) -> tuple[list[str], str]:
    """A group for each source, joined transitively, and a phrase that says by what.

    Without a group of its own a source is its own group, named by its key.
    Raises UsageError for a `group_by` that is neither a column nor a regular expression.
    """
    sources = catalog.sources
    if group_by == "none":
        return [source.key for source in sources], "nothing"
    if group_by is not None:
        return _chosen(catalog, group_by), group_by
    if any(source.group for source in sources):
        return [source.group or source.key for source in sources], "the manifest's column group"
    members = [_known_members(source, catalog.originals) for source in sources]
    recognised = {name for pairs in members for name, ids in pairs if len(ids) > 1}
    ids = [[one for name, found in pairs if name in recognised for one in found] for pairs in members]
    return _join(sources, ids), ", ".join(sorted(recognised)) or "nothing"


def check_groups(sources: list[Source], groups: list[str], by: str) -> None:
    """Raises UsageError where a group straddles the given splits, or swallows most of what is to be split."""
    splits = defaultdict(dict)
    for source, group in zip(sources, groups, strict=True):
        if source.split and not source.error:
            splits[group].setdefault(source.split, source.source)
    for group, places in splits.items():
        if len(places) > 1:
            listed = " and ".join(f"{source} ({split})" for split, source in places.items())
            raise UsageError(
                f"group {group} (by {by}) lies in {len(places)} splits: {listed}; move it into one split, "
                f"or pass --group-by none if these are not related"
            )
    free = Counter(g for s, g in zip(sources, groups, strict=True) if not s.split and not s.error)
    if not free:
        return
    group, count = free.most_common(1)[0]
    if count >= MIN_SWALLOWED and count > free.total() / 2:
        raise UsageError(
            f"grouping by {by} puts {count} of {free.total()} videos into one group ({group}), which leaves too "
            f"little for the other splits; pass --group-by with a narrower regular expression, for example "
            f"--group-by '(id\\d+)_' or '^(\\d\\d)_' to keep only a clip's first person together, a column of the "
            f"manifest, or none; or lay the videos out as train/ val/ test/ yourself"
        )


def _chosen(catalog: Catalog, group_by: str) -> list[str]:
    if group_by in catalog.columns:
        values = [catalog.rows[source.source].get(group_by) or "" for source in catalog.sources]
        return [value.strip() or source.key for value, source in zip(values, catalog.sources, strict=True)]
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        columns = f" (columns: {', '.join(catalog.columns)})" if catalog.columns else ""
        raise UsageError(f"--group-by {group_by}: is no column{columns} and no regular expression: {error}") from error
    found = [pattern.search(source.source) for source in catalog.sources]
    if not any(found):
        raise UsageError(f"--group-by {group_by}: matches no path, for example {catalog.sources[0].source}")
    return [
        "-".join(part or "" for part in match.groups()) or match[0] if match else source.key
        for match, source in zip(found, catalog.sources, strict=True)
    ]


def _known_members(source: Source, originals: dict[str, str]) -> list[tuple[str, list[str]]]:
    """(data set, identities) for every naming scheme that fits the source's file name."""
    path = PurePosixPath(source.source)
    members = []
    for name, pattern in KNOWN_NAMES.items():
        match = pattern.match(path.stem)
        if match:
            members.append((name, [f"{name}:{one}" for one in match.groups() if one]))
    if path.name in originals:
        members.append(("DFDC's metadata.json", [path.name, originals[path.name]]))
    elif originals:
        members.append(("DFDC's metadata.json", [path.name]))
    return members


def _join(sources: list[Source], ids: list[list[str]]) -> list[str]:
    """Connected components of the graph of sources and identities, each named after its first identity."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    numbers: dict[str, int] = {}
    edges = [(row, numbers.setdefault(one, len(numbers))) for row, found in enumerate(ids) for one in found]
    if not edges:
        return [source.key for source in sources]
    total = len(sources) + len(numbers)
    row, column = np.array(edges).T
    graph = coo_array((np.ones(len(edges), np.int8), (row, column + len(sources))), shape=(total, total))
    _, component = connected_components(graph, directed=False)
    first: dict[int, str] = {}
    for one in sorted(numbers):
        first.setdefault(int(component[len(sources) + numbers[one]]), one.split(":")[-1])
    return [first[int(component[row])] if ids[row] else source.key for row, source in enumerate(sources)]
