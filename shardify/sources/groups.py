"""Groups of sources that show the same person or scene, and so must not be divided between splits."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shardify.errors import UsageError
from shardify.format.words import SPLITS
from shardify.sources.catalog import Catalog, Source
from shardify.sources.layouts.names import UNMISTAKABLE, file_of, identities, listing

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
        """Root → the group's name: that of the first of the `earlier` members in it, else of its first member."""
        names: dict[str, str] = {}
        for member in [*earlier, *sorted(self._parent)]:
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
    named = {source.source: [f"group:{source.group}"] for source in catalog.sources if source.group}
    if named and catalog.columns:
        return Members(own | named, "the manifest's column group")
    apart = {kind for name in named for kind, _ in identities(name)}  # data sets that the layout groups otherwise
    looked_at = [source for source in [*catalog.sources, *gone] if source.source not in named]
    found = {
        source.source: [pair for pair in _known_members(source, catalog.originals) if pair[0] not in apart]
        for source in looked_at
    }
    recognised = {kind for pairs in found.values() for kind, ids in pairs if len(ids) > 1 or kind in UNMISTAKABLE}
    known = {
        name: [f"{kind}:{one}" for kind, ids in pairs if kind in recognised for one in ids]
        for name, pairs in found.items()
    }
    known = {name: members for name, members in known.items() if members}
    by = [*sorted(recognised), *([catalog.grouping] if named else [])]
    return Members(own | known | named, ", ".join(by) or "nothing")


def check_groups(catalog: Catalog, groups: list[str], by: str) -> None:
    """Raises UsageError where a group straddles the given splits, or swallows most of what is to be split.

    An official split wins over groups, whatever they are.
    """
    sources, splits = catalog.sources, defaultdict(dict)
    for source, group in zip(sources, groups, strict=True):
        if source.split and not source.error and source.split not in catalog.official:
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


def shared_people(catalog: Catalog, splits: Sequence[str | None]) -> str:
    """A line that says how many identities an official split has on two sides; splits: those of the sources."""
    places = defaultdict(set)
    for source, split in zip(catalog.sources, splits, strict=True):
        people = [(kind, one) for kind, ids in _known_members(source, catalog.originals) for one in ids]
        for person in people or [("group", source.group)]:
            places[person].add(split)
    places.pop(("group", None), None)
    shared = [sides for sides in places.values() if len(sides - {None, ""}) > 1]
    whose = "the" if catalog.title in ("class folders", "manifest") else f"{catalog.title}'s"
    name = f"{whose} official {'split' if 'train' in catalog.official else 'test list'}"
    if not shared:
        return f"{name} has no identity that is known by name in two splits"
    others = sorted(set().union(*shared) - {None, ""}, key=SPLITS.index)
    return f"{name} shares {len(shared)} identities between {listing(others)}; it wins over groups"


def _chosen(catalog: Catalog, group_by: str, gone: Sequence[Source]) -> dict[str, list[str]]:
    column = group_by.strip().lower()
    if column in catalog.columns:
        values = {source.source: catalog.rows[source.source].get(column) for source in catalog.sources}
        return {name: [f"group:{value}"] for name, value in values.items() if value}
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
    name = file_of(source.source)
    members = identities(name)
    if name in originals:
        members.append((DFDC, [name, originals[name]]))
    elif originals:
        members.append((DFDC, [name]))
    return members
