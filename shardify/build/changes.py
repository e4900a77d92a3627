"""Changes among the sources since they were packed, and copies of shards without the clips that they concern."""

from __future__ import annotations

import functools
import os
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from shardify.build.job import SOUND_FILE_FAILED
from shardify.build.plan import ShardPlan
from shardify.build.previous import Previous
from shardify.build.request import BuildRequest
from shardify.errors import FormatError, UsageError, VideoError
from shardify.format.index import heads_in, json_bytes, sha256, shard_name
from shardify.format.members import Member
from shardify.format.shard import ShardWriter, read_journal
from shardify.format.synthetic import KIND
from shardify.format.tar import read_shard
from shardify.format.words import SPLITS
from shardify.sources.catalog import Catalog, Source
from shardify.sources.layouts.names import listing
from shardify.sources.placement import FITS_NOWHERE, is_moved, place_sources
from shardify.storage.local import file_sha256
from shardify.video.piece import split_piece


@dataclass(frozen=True)
class Rewrite:
    """A finished shard, to be copied under a new name without the clips of dropped sources."""

    name: str
    old: dict  # the shard's entry in index.json
    rows: tuple[dict, ...]  # of the clips that stay


def apply_changes(previous: Previous, catalog: Catalog, request: BuildRequest) -> tuple[Previous, Catalog, list[str]]:
    """The previous build without what the request gives up, and lines that say what has changed on disk.

    Failed rows of a manifest are tried again when they are fixed. New pieces of a video that was packed in others are
    left out of the catalog until the old ones are given up. Raises UsageError where no class is what it was, or where
    the list of the official split is not there any more.
    """
    changes = request.changes
    _check_heads(previous, catalog, request.out)
    _check_classes(previous, catalog, request.out)
    notes = _compare_origin(previous.meta, catalog, request.out)
    gone, changed = _find_changes(previous, catalog, request)
    dropped = _fixed(previous, catalog) if catalog.columns else set()
    if dropped:
        notes.append(f"fixed since the last build: {len(dropped)} rows that had failed, for example {min(dropped)}")
        gone, changed = ([name for name in names if name not in dropped] for names in (gone, changed))
    recut, new = _cut_anew(gone, previous, catalog)
    gone, changed = [name for name in gone if name not in recut], sorted({*changed, *recut})
    for names, what, act, option in (
        (gone, "gone", changes.prune, "--prune drops their clips"),
        (changed, "changed", changes.rebuild_changed, "--rebuild-changed packs them again"),
    ):
        if act:
            dropped.update(names)
        if names:
            done = "their clips are dropped" if act else f"their clips are kept as they were; {option}"
            notes.append(f"{what} since the last build: {len(names)} videos, for example {names[0]}; {done}")
    if new and not changes.rebuild_changed:
        catalog = replace(catalog, sources=[source for source in catalog.sources if source.source not in new])
        notes.append(f"not packed beside them: {len(new)} new pieces of these videos, for example {min(new)}")
    if changes.retry_failed:
        dropped.update(row["source"] for row in previous.rows if row["status"] == "failed")
    return replace(previous, dropped=frozenset(dropped)), catalog, notes


def _cut_anew(gone: list[str], previous: Previous, catalog: Catalog) -> tuple[set[str], set[str]]:
    """Of the gone, the pieces of videos that have new ones; and these new ones."""
    packed = {row["source"] for row in previous.rows}
    new = [source for source in catalog.sources if source.source not in packed]
    videos = {source.video for source in new} & {split_piece(name)[0] for name in gone}
    recut = {name for name in gone if split_piece(name)[0] in videos}
    return recut, {source.source for source in new if source.video in videos}


def _fixed(previous: Previous, catalog: Catalog) -> set[str]:
    """Failed inputs that the manifest does not name any more, says something else of, or whose file has come."""
    here = {source.source: source for source in catalog.sources}
    failed = {row["source"]: row for row in previous.rows if row["status"] == "failed"}
    settings = previous.meta["settings"]
    fixed = {name for name, row in failed.items() if name not in here or _is_fixed(here[name], row, settings)}
    torn = {name for name, row in failed.items() if row["error"].endswith(FITS_NOWHERE)} - fixed
    if torn:  # by a split or a group, of this row or of others: whether they fit now
        rows = [row for row in previous.rows if row["source"] not in fixed | torn]
        known = {row["source"]: row["split"] or None for row in rows}
        given = [known.get(source.source, source.split) for source in catalog.sources]
        conflicts = place_sources(catalog, settings.get("group_by"), given, rows).conflicts
        fixed |= torn - {catalog.sources[number].source for number in conflicts}
    return fixed


def _is_fixed(source: Source, row: dict, settings: dict) -> bool:
    if source.error:
        return source.error != row["error"]
    lacked_sound = row["error"].startswith(SOUND_FILE_FAILED) and "cannot be opened" in row["error"]
    has_come = (not row["source_bytes"] and source.path.exists()) or (
        lacked_sound and source.sound is not None and os.access(source.sound.path, os.R_OK)
    )
    has_target = source.target is not None and source.target != float(row["target"])
    has_changed = source.class_name != row["class"] or _has_other_sound(source, row)
    return has_changed or has_come or is_moved(source, row, settings) or has_target


def _find_changes(previous: Previous, catalog: Catalog, request: BuildRequest) -> tuple[list[str], list[str]]:
    """Packed sources that are gone, and those with other bytes, or of which something else is said now.

    Files that are no newer than the index are taken to be unchanged if their size is; --rebuild-changed reads all.
    """
    here = {source.source: source for source in catalog.sources}
    rows = {row["source"]: row for row in previous.rows}
    settings = previous.meta["settings"]
    thorough, index_path = request.changes.rebuild_changed, request.out / "index.json"
    suspect_ns = float("-inf") if thorough else index_path.stat().st_mtime_ns

    @functools.cache
    def fingerprint(path: Path, size: int) -> str:
        return request.sources.fingerprint(path, size, settings.get("full_hash", False))

    gone = [name for name, row in rows.items() if name not in here or _is_missing(here[name].path, row)]
    changed = _regrouped(previous, catalog)
    for name in rows.keys() & here.keys():
        source, row = here[name], rows[name]
        files = [(source.path, row["source_fingerprint"], row["source_bytes"])]
        if source.sound and row.get("audio_fingerprint"):
            files.append((source.sound.path, row["audio_fingerprint"], None))
        if _is_relabelled(source, row, previous.meta) or any(
            _differs(*file, suspect_ns, fingerprint) for file in files
        ):
            changed.append(name)
    return gone, sorted(set(changed).difference(gone))


def _is_missing(path: Path, row: dict) -> bool:
    """Whether a packed video that a manifest still names is no longer there."""
    try:
        return bool(row["source_fingerprint"]) and not os.path.lexists(path)
    except ValueError:  # a name that no file can have
        return False


def _is_relabelled(source: Source, row: dict, meta: dict) -> bool:
    """Whether the manifest, the folders or a list say something else of a packed video now."""
    if not row["source_fingerprint"]:
        return False
    target_differs = source.target is not None and source.target != float(row["target"])
    kind_differs = source.kind not in ("", row["kind"]) and row["kind"] != KIND  # which its file says, too
    class_differs = source.class_name != row["class"] or any(
        source.labels.get(head.name, "") != head.class_in(row) for head in heads_in(meta)[1:]
    )
    said_differs = class_differs or target_differs or kind_differs or _has_other_sound(source, row)
    return said_differs or is_moved(source, row, meta["settings"])


def _has_other_sound(source: Source, row: dict) -> bool:
    """Whether the manifest names another sound file, or another moment of it, in a build that keeps sound."""
    now = (source.sound.name, source.sound.offset) if source.sound else ("", 0.0)
    return "audio" in row and now != (row["audio"], float(row["audio_offset"]))


def _regrouped(previous: Previous, catalog: Catalog) -> list[str]:
    """Packed videos that the manifest puts together with others than before; another name alone is no change."""
    column = (previous.meta["settings"].get("group_by") or "group").strip().lower()
    packed = {row["source"]: row["group"] for row in previous.rows if row["source_fingerprint"]}
    said = {name: row[column] for name, row in catalog.rows.items() if name in packed and row.get(column)}
    before, now = defaultdict(set), defaultdict(set)
    for name, group in said.items():
        before[packed[name]].add(group)
        now[group].add(packed[name])
    return [
        name
        for name, group in said.items()
        if group != packed[name] and (len(before[packed[name]]) > 1 or len(now[group]) > 1)
    ]


def _check_heads(previous: Previous, catalog: Catalog, folder: Path) -> None:
    before, now = tuple(head.name for head in heads_in(previous.meta)), catalog.heads
    if before[0] != now[0] or set(before) != set(now):
        raise UsageError(
            f"{folder}: was built with the labels {listing(before)}, and they are {listing(now)} now (the first one is "
            "the primary one, which every row of a manifest has); pass a manifest with the same, or another folder"
        )


def _check_classes(previous: Previous, catalog: Catalog, folder: Path) -> None:
    packed = {row["source"]: row["class"] for row in previous.rows if row["status"] == "ok"}
    now = {source.class_name for source in catalog.sources}
    before = {packed[source.source] for source in catalog.sources if source.source in packed}
    if before and not before & now:
        raise UsageError(
            f"{folder}: was built with the classes {listing(sorted(before)[:3])}, and the same videos are of the "
            f"classes {listing(sorted(now)[:3])} now ({catalog.summary}); build into a new folder, or pass "
            f"--layout folders where it was built like that"
        )


def _compare_origin(meta: Mapping, catalog: Catalog, folder: Path) -> list[str]:
    """Lines about another layout or list than those of the earlier build, where it has recorded them.

    Raises UsageError where there is no list any more: new videos would lie in other splits than it says, if in any.
    """
    notes = []
    before, now = meta.get("split_list"), catalog.split_list
    if before and not now and catalog.layout != "manifest":
        raise UsageError(
            f"{folder}: was built with the official split of {before['name']}, which is not found now; pass it with "
            f"--split-file, or build into another folder"
        )
    if now and "split_list" in meta and before != now:
        had = "without a list" if before is None else f"with that of {before['name']}"
        changed = before and before["name"] == now["name"]
        told = "has changed since the last build" if changed else f"is new: the last build was {had}"
        notes.append(f"warning: the official split of {now['name']} {told}")
    if meta.get("layout", catalog.layout) != catalog.layout:
        notes.append(f"warning: the layout is {catalog.layout}, that of the last build was {meta['layout']}")
    return notes


def _differs(
    path: Path, packed: str, size: str | None, suspect_ns: float, fingerprint: Callable[[Path, int], str]
) -> bool:
    """Whether a file has other bytes than before; one that cannot be read now is left as it was packed.

    packed: its fingerprint, or empty. size: its bytes, None where that is not known. suspect_ns: newer files are read.
    """
    try:
        here = path.stat()
        if size is not None and str(here.st_size) != size:
            return True
        return bool(packed) and here.st_mtime_ns > suspect_ns and fingerprint(path, here.st_size) != packed
    except (VideoError, OSError, ValueError):
        return False


def plan_rewrites(previous: Previous, new_shards: list[ShardPlan]) -> list[Rewrite]:
    """Copies under new numbers: a finished shard is never written to, so that a crash leaves the old or the new."""
    rewritten = previous.rewritten
    contents = _contents(previous.samples) if rewritten else {}
    plans = []
    for split in SPLITS:
        number = previous.next_number(split) + sum(shard.split == split for shard in new_shards)
        for shard in previous.meta["splits"][split]["shards"]:
            if shard["name"] not in rewritten:
                continue
            rows = [row for row in previous.rows if row["shard"] == shard["name"]]
            stay = tuple({**row, **contents[row["key"]]} for row in rows if row["source"] not in previous.dropped)
            if stay:
                plans.append(Rewrite(shard_name(split, number), shard, stay))
                number += 1
    return plans


def _contents(samples: np.ndarray) -> dict[str, dict[str, int]]:
    """The fields NAME_crc and NAME_present of every clip, by its key."""
    names = [name for name in samples.dtype.names if name.endswith(("_crc", "_present"))]
    keys = [key.decode() for key in samples["key"].tolist()]
    return {
        key: dict(zip(names, values, strict=True)) for key, values in zip(keys, samples[names].tolist(), strict=True)
    }


def rewrite_shard(folder: Path, plan: Rewrite, members: Mapping[str, Member]) -> dict:
    """The journal entry of the copy. Raises FormatError when the finished shard is damaged."""
    plan_id = sha256(
        json_bytes(["rewrite", plan.name, plan.old["sha256"], [[row["key"], row["group"]] for row in plan.rows]])
    )
    entry = read_journal(folder, plan.name, plan_id)
    if entry is not None:
        return entry
    old = folder / plan.old["name"]
    if not old.exists() or file_sha256(old) != plan.old["sha256"]:
        raise FormatError(f"{old}: is missing or damaged; run shardify verify --repair DATA {folder} first")
    contents = defaultdict(dict)  # key → extension → bytes
    for name, _, content in read_shard(old):
        key, _, extension = name.partition(".")
        contents[key][extension] = content
    with ShardWriter(folder, plan.name, members) as writer:
        for row in plan.rows:
            writer.copy(row, contents[row["key"]])
        return writer.finish(plan_id, plan.old["versions"])
