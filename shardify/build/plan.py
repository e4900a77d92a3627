"""The plan of a build: every source's split and shard, decided before anything is decoded."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass, replace

from shardify.build.job import Job, failed_row
from shardify.build.previous import Previous
from shardify.build.remote.sources import LOCAL, Sources
from shardify.errors import UsageError
from shardify.format.index import heads_in, shard_name
from shardify.format.records import PRIMARY, Head
from shardify.format.settings import BuildSettings
from shardify.format.synthetic import KIND
from shardify.format.words import SPLITS, meaning_of
from shardify.sources.boxes import NO_BOX
from shardify.sources.catalog import SHOWN, Catalog, Source, order_classes
from shardify.sources.entries import is_picture_name
from shardify.sources.groups import check_groups, group_names, shared_people
from shardify.sources.placement import Placement, is_moved, place_sources
from shardify.sources.splits import assign_splits
from shardify.sources.synthetic import find_synthetic
from shardify.video.resize import Box

DEFAULT_FRACTION = 0.1


@dataclass(frozen=True)
class BuildPlan:
    heads: list[Head]  # the primary one first
    shards: list[ShardPlan]  # of the new inputs only
    rejected: list[dict]  # rows of new inputs that cannot be used, as their place or name says
    notes: list[str]
    renamed: dict[str, str]  # groups of earlier builds → the ones that they are part of now
    origin: dict[str, object]  # what index.json says of where the inputs come from: layout and split_list

    @property
    def classes(self) -> list[str]:
        """Of the primary head."""
        return self.heads[0].classes


def plan_build(
    catalog: Catalog,
    settings: BuildSettings,
    previous: Previous | None,
    boxes: dict[str, Box] | None = None,
    sources: Sources = LOCAL,
) -> BuildPlan:
    """Decide every new input's class, group, split and shard before anything is decoded. sources: where they lie."""
    rows = [row for row in previous.rows if row["source"] not in previous.dropped] if previous else []
    known = {row["source"] for row in rows}
    catalog = replace(catalog, sources=find_synthetic(catalog.sources, known, sources.are_synthetic))
    groups, by = group_names(catalog, settings.group_by)
    check_groups(catalog, groups, by)
    _check_targets(catalog.sources)
    _check_pictures(catalog.sources, settings)
    splits, placement, notes = _choose_splits(catalog, settings, previous.rows if previous else [], rows)
    usable = [s for i, s in enumerate(catalog.sources) if not s.error and i not in placement.conflicts]
    heads = _heads(catalog, usable, previous, notes)
    jobs, rejected = [], []
    for i, source in enumerate(catalog.sources):
        if source.source in known:
            continue
        error = source.error or placement.conflicts.get(i)
        if boxes is not None and not error and source.video not in boxes:
            error = NO_BOX
        classes = catalog.classes_of(source)
        labels = {head.name: head.index_of(classes[head.name]) for head in heads}
        target = labels[heads[0].name] if source.target is None else source.target
        job = Job(
            source.path, source.source, source.key, splits[i] or "", labels, classes, float(target),
            placement.groups[i], boxes.get(source.video) if boxes else None, source.kind, source.original,
            source.piece, source.sound,
        )  # fmt: skip
        if error:
            rejected.append(failed_row(job, error))
        else:
            jobs.append(job)
    if synthetic := sum(job.kind == KIND for job in jobs):
        notes.append(f"{synthetic} inputs are synthetic: they are in train, whatever the split of the others")
    if "audio" in catalog.columns and settings.audio == "none":
        notes.append("the manifest's column audio is left alone: pass --audio auto for the sound")
    if catalog.official:
        notes.insert(0, shared_people(catalog, splits))
    if by != "nothing":
        apart = "" if catalog.official else ", none of them in two splits"
        notes.insert(0, f"grouped by {by}: {len(set(placement.groups))} groups{apart}")
    elif settings.group_by is None:
        notes.insert(0, "not grouped: each video is for itself; if people are in several, name them by --group-by")
    recognised = [line for line in (catalog.summary, *map(_class_line, heads)) if line]
    first = {split: previous.next_number(split) if previous else 0 for split in SPLITS}
    shards = deal_shards(jobs, settings.shard_size, settings.clips, settings.seed, first)
    origin = {"layout": catalog.layout, "split_list": catalog.split_list}
    return BuildPlan(heads, shards, rejected, [*recognised, *catalog.notes, *notes], placement.renamed, origin)


def _heads(catalog: Catalog, usable: list[Source], previous: Previous | None, notes: list[str]) -> list[Head]:
    """The heads with their classes, those of earlier builds first."""
    known = {head.name: tuple(head.classes) for head in heads_in(previous.meta)} if previous else {}
    named = [catalog.classes_of(source) for source in usable]
    heads = []
    for name in known or catalog.heads:
        head = Head(name, order_classes({classes[name] for classes in named} - {""}, known.get(name, ())))
        heads.append(head)
        if len(head.classes) > 1 or "target" in catalog.columns:
            continue
        found = f"only one class ({head.classes[0]})" if head.classes else "no class"
        of = f" in {head.column}" if name != PRIMARY else ""
        if not usable or {source.split for source in usable} != {"test"}:
            remedy = "name" if catalog.columns else "lay the videos out in a folder for each of"
            raise UsageError(f"{found}{of}; {remedy} two or more")
        notes.append(
            f"warning: {found}{of}, in a test split alone: figures that compare classes are undefined, and its number "
            "is 0, whatever it is in training"
        )
    return heads


def _class_line(head: Head) -> str:
    """The classes by index, and which of two is the positive one."""
    classes, name = head.classes, "" if head.name == PRIMARY else f"{head.name}: "
    if len(classes) > SHOWN:
        return f"{name}{len(classes)} classes, from 0 {classes[0]} to {len(classes) - 1} {classes[-1]}"
    line = name + ", ".join(f"class {number} {name}" for number, name in enumerate(classes))
    if len(classes) != 2:
        return line
    is_upside_down = [meaning_of(name) for name in classes] == ["fake", "real"]
    warning = "; warning: an earlier build has put fake first, a new folder has it second" if is_upside_down else ""
    return f"{line} (positive){warning}"


def _choose_splits(
    catalog: Catalog, settings: BuildSettings, packed: list[dict], rows: list[dict]
) -> tuple[list[str | None], Placement, list[str]]:
    """A split for every source, its group, and lines for the user; `rows`: those of `packed` that stay."""
    sources, notes, stay = catalog.sources, [], {row["source"] for row in rows}
    known = {row["source"]: row for row in packed if row["status"] == "ok" or row["source"] in stay}
    given = [_given_split(s, known.get(s.source), s.source in stay, settings) for s in sources]
    laid_out = any(source.split for source in sources)
    fractions = {"val": settings.val_fraction, "test": settings.test_fraction}
    if laid_out:  # taken as it is, unless fractions say what to carve out of train
        wanted = {split for split, fraction in fractions.items() if fraction}
        carve = wanted - {split for split in given if split}
        given = [
            None if split == "train" and carve and s.source not in known else split
            for s, split in zip(sources, given, strict=True)
        ]
        fractions = {split: (fractions[split] if split in carve else 0.0) for split in fractions}
        if catalog.official and "train" not in catalog.official and "val" not in catalog.official:
            fractions["val"] = DEFAULT_FRACTION if settings.val_fraction is None else settings.val_fraction
        for split in sorted(wanted - carve):
            notes.append(f"{split} is laid out already: --{split}-fraction is not applied")
    else:
        fractions = {s: DEFAULT_FRACTION if f is None else f for s, f in fractions.items()}
    sources = [replace(s, split=s.split or "train") if s.is_synthetic else s for s in sources]
    given = [s.split if s.is_synthetic else split for s, split in zip(sources, given, strict=True)]
    placement = place_sources(replace(catalog, sources=sources), settings.group_by, given, rows)
    splits: list[str | None] = list(placement.splits)
    usable = [i for i, source in enumerate(sources) if not source.error and i not in placement.conflicts]
    apart = [f"{split} " if split in catalog.official else "" for split in splits]  # whom no group follows
    chosen = assign_splits(
        [apart[i] + placement.groups[i] for i in usable],
        [sources[i].class_name for i in usable],
        [splits[i] for i in usable],
        val_fraction=fractions["val"],
        test_fraction=fractions["test"],
        seed=settings.seed,
    )
    for i, split in zip(usable, chosen, strict=True):
        splits[i] = split
    return splits, placement, [*notes, *placement.notes]


def _given_split(source: Source, row: dict | None, stays: bool, settings: BuildSettings) -> str | None:
    """The split in which an input lies: that of an earlier build, unless it is packed again in another."""
    if row is None or (not stays and is_moved(source, row, settings.to_dict())):
        return source.split
    return row["split"] or None


def _check_pictures(sources: list[Source], settings: BuildSettings) -> None:
    """Raises UsageError where pictures are among videos, or are to be clips of several frames."""
    pictures = [source for source in sources if is_picture_name(source.path)]
    if not pictures:
        return
    if len(pictures) < len(sources):
        raise UsageError(f"{pictures[0].source} is a picture, others are videos; build them into two folders")
    if settings.audio != "none":
        raise UsageError(f"{pictures[0].source} is a picture, which has no sound; leave out --audio")
    if (settings.frames, settings.clips) != (1, 1):
        raise UsageError(f"{pictures[0].source} is a picture, as all inputs are: pass --frames 1 (and no --clips)")


def _check_targets(sources: list[Source]) -> None:
    """Raises UsageError where some have a target and others have none: class numbers would stand in among them."""
    missing = [source for source in sources if source.target is None]
    if 0 < len(missing) < len(sources):
        raise UsageError(
            f"{len(missing)} of {len(sources)} rows of the manifest have no target, the first: {missing[0].source}; "
            f"fill them in, or leave all of them empty"
        )


@dataclass(frozen=True)
class ShardPlan:
    split: str
    number: int
    jobs: tuple[Job, ...]

    @property
    def name(self) -> str:
        return shard_name(self.split, self.number)


def deal_shards(jobs: list[Job], shard_size: int, clips: int, seed: int, first: dict[str, int]) -> list[ShardPlan]:
    """Shards of at most `shard_size` clips, equal in size to within one video; numbers start at `first[split]`.

    The clips of one video stay together, since it is decoded once.
    """
    per_shard = max(1, shard_size // clips)
    plans = []
    for split in SPLITS:
        chosen = sorted((job for job in jobs if job.split == split), key=lambda job: job.key)
        random.Random(f"{seed}:{split}:{first[split]}").shuffle(chosen)
        count = math.ceil(len(chosen) / per_shard)
        borders = [len(chosen) * i // count for i in range(count + 1)] if count else []
        for i, (start, stop) in enumerate(itertools.pairwise(borders)):
            plans.append(ShardPlan(split, first[split] + i, tuple(chosen[start:stop])))
    return plans
