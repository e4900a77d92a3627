"""Twins: files of equal bytes in two classes or two splits, found before anything is decoded."""

from __future__ import annotations

import functools
from collections import defaultdict
from pathlib import Path

from shardify.build.plan import BuildPlan
from shardify.build.previous import Previous
from shardify.build.remote.sources import Sources
from shardify.build.request import BuildRequest
from shardify.errors import VideoError
from shardify.sources.fingerprint import source_bytes
from shardify.video.piece import split_piece

PROBE_BYTES = 4096  # read of the middle of files of equal size, before their fingerprints are made


def find_twins(plan: BuildPlan, previous: Previous | None, request: BuildRequest) -> list[str]:
    """Lines about new files that equal another, new or packed, of another class or split.

    Only files of equal size in two classes or splits are opened: a block of each, and where these are equal, too, what
    the fingerprint covers. The pieces of one video are no twins.
    """
    jobs = [job for shard in plan.shards for job in shard.jobs]
    rows = [row for row in previous.rows if row["source"] not in previous.dropped] if previous else []
    by_size: dict[int, list[tuple]] = defaultdict(list)
    for row in rows:
        if row["source_fingerprint"]:
            by_size[int(row["source_bytes"])].append((row["class"], row["split"], row["source"], False))
    for job in jobs:
        if size := source_bytes(job.path):
            by_size[size].append((job.class_name, job.split, job.source, True))
    found = {"classes": [], "splits": []}
    for size, files in by_size.items():
        if not _are_apart(files, slice(2)) or not any(file[3] for file in files):
            continue
        for alike in _alike(request, size, files):
            for number, what in enumerate(found):
                if _are_apart(alike, number):
                    found[what].append(alike)
    return [_line(what, groups) for what, groups in found.items() if groups]


def _are_apart(files: list[tuple], what: int | slice) -> bool:
    """Whether several videos are among them, in several classes (0), splits (1), or either."""
    return len({file[what] for file in files}) > 1 and len({split_piece(file[2])[0] for file in files}) > 1


def _alike(request: BuildRequest, size: int, files: list[tuple]) -> list[list[tuple]]:
    """Those of the files that are equal, by groups; one that cannot be read equals no other."""
    groups, whole = [files], request.settings.full_hash
    for read in map(functools.cache, (_probe, Sources.fingerprint)):  # a video may have a thousand pieces
        finer = []
        for group in groups:
            by_value = defaultdict(list)
            for file in group:
                path = request.data / split_piece(file[2])[0]
                try:
                    by_value[read(request.sources, path, size, whole)].append(file)
                except (VideoError, OSError, ValueError):
                    continue
            finer += [alike for alike in by_value.values() if _are_apart(alike, slice(2))]
        groups = finer
    return groups


def _probe(sources: Sources, path: Path, size: int, whole: bool) -> bytes:
    with sources.open(path, PROBE_BYTES) as file:
        file.seek(max(0, size - PROBE_BYTES) // 2)
        return file.read(PROBE_BYTES)


def _line(what: str, groups: list[list[tuple]]) -> str:
    first = sorted(f"{source} ({class_name}, {split})" for class_name, split, source, _ in groups[0])
    return f"warning: the same bytes in two {what}, {len(groups)} times; the first: {' = '.join(first[:4])}"
