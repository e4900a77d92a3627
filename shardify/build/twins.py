"""Twins: files of equal bytes in two classes or two splits, found before anything is decoded."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from shardify.build.plan import BuildPlan
from shardify.build.previous import Previous
from shardify.build.request import BuildRequest
from shardify.errors import ShardifyError
from shardify.sources.fingerprint import source_bytes, source_fingerprint
from shardify.video.container import open_regular_file

PROBE_BYTES = 4096  # read of the middle of files of equal size, before their fingerprints are made


def find_twins(plan: BuildPlan, previous: Previous | None, request: BuildRequest) -> list[str]:
    """Lines about new files that equal another, new or packed, of another class or split.

    Only files of equal size in two classes or splits are opened: a block of each, and where these are equal, too, what
    the fingerprint covers.
    """
    data, whole = request.data, request.settings.full_hash
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
        if len({file[:2] for file in files}) < 2 or not any(file[3] for file in files):
            continue
        for alike in _alike(data, size, files, whole):
            for number, what in enumerate(found):
                if len({file[number] for file in alike}) > 1:
                    found[what].append(alike)
    return [_line(what, groups) for what, groups in found.items() if groups]


def _alike(data: Path, size: int, files: list[tuple], whole: bool) -> list[list[tuple]]:
    """Those of the files that are equal, by groups; one that cannot be read equals no other."""
    groups = [files]
    for read in (_probe, source_fingerprint):
        finer = []
        for group in groups:
            by_value = defaultdict(list)
            for file in group:
                try:
                    by_value[read(data / file[2], size, whole)].append(file)
                except (ShardifyError, OSError, ValueError):
                    continue
            finer += [alike for alike in by_value.values() if len({file[:2] for file in alike}) > 1]
        groups = finer
    return groups


def _probe(path: Path, size: int, whole: bool) -> bytes:
    with open_regular_file(path) as file:
        file.seek(max(0, size - PROBE_BYTES) // 2)
        return file.read(PROBE_BYTES)


def _line(what: str, groups: list[list[tuple]]) -> str:
    first = sorted(f"{source} ({class_name}, {split})" for class_name, split, source, _ in groups[0])
    return f"warning: the same bytes in two {what}, {len(groups)} times; the first: {' = '.join(first[:4])}"
