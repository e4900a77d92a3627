"""The group of every source over all builds of a folder: new ones follow the clips that are packed already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shardify.sources.catalog import Catalog, Source
from shardify.sources.groups import GroupSets, find_members

FITS_NOWHERE = "so it fits into no split; leave it out"


@dataclass(frozen=True)
class Placement:
    """Groups as they are after this build; the lists are parallel to the catalog's sources."""

    groups: list[str]
    splits: list[str | None]  # in which a source's group lies already; None: to be chosen
    conflicts: dict[int, str]  # number of a source that no split can take → the reason
    renamed: dict[str, str]  # group of an earlier build → the one that it is part of now
    notes: list[str]


def place_sources(
    catalog: Catalog, group_by: str | None, given: Sequence[str | None], rows: Sequence[dict[str, str]]
) -> Placement:
    """Join the catalog's sources with the rows of earlier builds into groups, none of which spreads to another split.

    given: the split of each source, as laid out or as packed. rows: those of earlier builds that stay. A new source
    that would connect groups of several splits stays out of all of them. In the splits of an official list groups are
    apart from those of the same name elsewhere: they follow the list, and nobody follows them.
    """
    sources, packed = catalog.sources, {row["source"]: row for row in rows}
    here = {source.source for source in sources}
    gone = [Source(Path(), name, row["class"], None) for name, row in packed.items() if name not in here]
    members, sets = find_members(catalog, group_by, gone), GroupSets()
    joined = {name for name, row in packed.items() if row["status"] == "ok"}
    of = members.of | {name: [f"group:{packed[name]['group']}", *members.of[name]] for name in joined}
    lies_in = {source.source: split for source, split in zip(sources, given, strict=True)}
    lies_in |= {name: row["split"] for name, row in packed.items()}
    for name, split in lies_in.items():
        if split in catalog.official:
            of[name] = [f"{split} {member}" for member in of[name]]
    for name in joined:  # those are connected, whatever their splits
        sets.join(of[name], packed[name]["split"])
    notes = _straddling(sets, packed, of, members.by)
    for name, row in packed.items():
        if name not in joined and row["split"] and len(sets.splits(of[name]) | {row["split"]}) == 1:
            sets.join(of[name], row["split"])
            joined.add(name)
    conflicts = {}
    for number, source in sorted(enumerate(sources), key=lambda item: item[1].is_synthetic):  # they give way to others
        if source.source in packed or source.error:
            continue
        found = sets.splits(of[source.source])
        laid_out = {given[number]} - {None} if given[number] == source.split else set()
        if len(found | laid_out) > 1:
            conflicts[number] = _why_not(of[source.source], found | laid_out)
        else:
            sets.join(of[source.source], next(iter(found), given[number]))
            joined.add(source.source)
    earlier = dict.fromkeys(of[name][0] for name, row in packed.items() if row["status"] == "ok")
    names = sets.names(earlier)
    groups, splits = [], []
    for number, source in enumerate(sources):
        is_in = source.source in joined
        groups.append(names[sets.find(of[source.source][0])] if is_in else source.key)
        splits.append(min(sets.splits(of[source.source]), default=None) if is_in else given[number])
    now = {member.partition(":")[2]: names[sets.find(member)] for member in earlier}
    renamed = {name: other for name, other in now.items() if name != other}
    if renamed:
        name, other = next(iter(renamed.items()))
        count = len(renamed)
        notes.append(f"groups of earlier builds that are part of another now: {count}, for example {name} of {other}")
    return Placement(groups, splits, conflicts, renamed, notes)


def is_moved(source: Source, row: dict[str, str], settings: Mapping) -> bool:
    """Whether an input of an earlier build has another split now, as laid out or listed.

    It has not where it was carved out of train, as the build's settings say.
    """
    is_carved = source.split == "train" and bool(settings.get(f"{row['split']}_fraction"))
    return source.split not in (None, row["split"]) and not is_carved


def _why_not(members: list[str], splits: set[str]) -> str:
    names = " and ".join(sorted({member.partition(":")[2] for member in members}))
    return f"joins groups of {' and '.join(sorted(splits))} ({names}), {FITS_NOWHERE}"


def _straddling(sets: GroupSets, packed: dict[str, dict], of: dict[str, list[str]], by: str) -> list[str]:
    """A line about groups whose clips earlier builds have put into several splits."""
    found = {sets.find(of[name][0]): name for name in packed if len(sets.splits(of[name])) > 1}
    if not found:
        return []
    name = next(iter(found.values()))
    splits = " and ".join(sorted(sets.splits(of[name])))
    return [
        f"warning: {len(found)} groups lie in several splits, for example that of {name} in {splits}: what belongs "
        f"together (by {by}) was not known to earlier builds; build into a new folder to fix that"
    ]
