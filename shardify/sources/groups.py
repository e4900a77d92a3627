"""Groups of sources that show the same person or scene, and so must not be divided between splits."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from shardify.errors import UsageError
from shardify.sources.catalog import Catalog, Source

# Public data sets whose file names say who is in a clip: one identity, or two in a fake.
KNOWN_NAMES = {
    "FaceForensics++": re.compile(r"^(\d{3})(?:_(\d{3}))?$"),
    "Celeb-DF": re.compile(r"^(id\d+)(?:_(id\d+))?_\d{4}$"),
    "DeepFakeDetection": re.compile(r"^(\d\d)(?:_(\d\d))?__"),
}
DFDC = "DFDC's metadata.json"
MIN_SWALLOWED = 10  # smaller groups are never too large


@dataclass(frozen=True)
class Members:
    """What each source shares with the others of its group: names of groups, and identities."""

    of: dict[str, list[str]]  # source → members, each `kind:name`; never empty
    by: str  # what they follow from, for people


class GroupSets:
    """Disjoint sets of members, each with the splits in which it has sources."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}
        self._splits: defaultdict[str, set[str]] = defaultdict(set)  # by the set's root

    def find(self, member: str) -> str:
        """The root of a member's set."""
        parent, root = self._parent, member
        while (above := parent.setdefault(root, root)) != root:
            root = above
        while member != root:
            parent[member], member = root, parent[member]
        return root

    def splits(self, members: Iterable[str]) -> set[str]:
        """The splits in which the members' sets have sources."""
        return set().union(*(self._splits[self.find(member)] for member in members))

    def join(self, members: Sequence[str], split: str | None) -> None:
        """Make one set of the members' sets, which has a source in `split`."""
        root = self.find(members[0])
        for other in map(self.find, members[1:]):
            if other != root:
                self._parent[other] = root
                self._splits[root] |= self._splits.pop(other, set())
        if split:
            self._splits[root].add(split)

    def names(self, earlier: Iterable[str] = ()) -> dict[str, str]:
        """Root → the group's name: the first of the `earlier` names in it, else that of its first member."""
        names: dict[str, str] = {}
        for name in earlier:
            names.setdefault(self.find(f"group:{name}"), name)
        for member in sorted(self._parent):
            names.setdefault(self.find(member), member.partition(":")[2])
        return names


def group_names(catalog: Catalog, group_by: str | None) -> tuple[list[str], str]:
    """A group for each source of the catalog alone, joined transitively, and a phrase that says by what.

    Without a group of its own a source is its own group, named by its key.
    Raises UsageError for a `group_by` that is neither a column nor a regular expression.
    """
    members, sets = find_members(catalog, group_by), GroupSets()
    for source in catalog.sources:
        sets.join(members.of[source.source], None)
    names = sets.names()
    return [names[sets.find(members.of[source.source][0])] for source in catalog.sources], members.by


def find_members(catalog: Catalog, group_by: str | None, gone: Sequence[Source] = ()) -> Members:
    """The members of every source of the catalog, and of those that earlier builds packed and that are `gone` from it.

    Raises UsageError for a `group_by` that is neither a column nor a regular expression.
    """
    own = {source.source: [f"group:{source.key}"] for source in [*catalog.sources, *gone]}
    if group_by == "none":
        return Members(own, "nothing")
    if group_by is not None:
        return Members(own | _chosen(catalog, group_by, gone), group_by)
    if any(source.group for source in catalog.sources):
        named = {source.source: [f"group:{source.group}"] for source in catalog.sources if source.group}
        return Members(own | named, "the manifest's column group")
    found = {source.source: _known_members(source, catalog.originals) for source in [*catalog.sources, *gone]}
    recognised = {kind for pairs in found.values() for kind, ids in pairs if len(ids) > 1}
    named = {
        name: [f"{kind}:{one}" for kind, ids in pairs if kind in recognised for one in ids]
        for name, pairs in found.items()
    }
    named = {name: members for name, members in named.items() if members}
    return Members(own | named, ", ".join(sorted(recognised)) or "nothing")


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


def _chosen(catalog: Catalog, group_by: str, gone: Sequence[Source]) -> dict[str, list[str]]:
    if group_by in catalog.columns:
        values = {source.source: catalog.rows[source.source].get(group_by) or "" for source in catalog.sources}
        return {name: [f"group:{value.strip()}"] for name, value in values.items() if value.strip()}
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        columns = f" (columns: {', '.join(catalog.columns)})" if catalog.columns else ""
        raise UsageError(f"--group-by {group_by}: is no column{columns} and no regular expression: {error}") from error
    matches = {source.source: pattern.search(source.source) for source in [*catalog.sources, *gone]}
    if not any(matches.values()):
        raise UsageError(f"--group-by {group_by}: matches no path, for example {catalog.sources[0].source}")
    return {
        name: [f"group:{'-'.join(part or '' for part in match.groups()) or match[0]}"]
        for name, match in matches.items()
        if match
    }


def _known_members(source: Source, originals: dict[str, str]) -> list[tuple[str, list[str]]]:
    """(data set, identities) for every naming scheme that fits the source's file name."""
    path = PurePosixPath(source.source)
    members = []
    for name, pattern in KNOWN_NAMES.items():
        match = pattern.match(path.stem)
        if match:
            members.append((name, [one for one in match.groups() if one]))
    if path.name in originals:
        members.append((DFDC, [path.name, originals[path.name]]))
    elif originals:
        members.append((DFDC, [path.name]))
    return members
