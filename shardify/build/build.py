"""The straight line: sources → splits → shards → tables; goes on where it was stopped."""

from __future__ import annotations

import contextlib
import functools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from shardify.build import commit
from shardify.build.build_shard import build_shard, plan_hash
from shardify.build.changes import Changes, apply_changes, plan_rewrites, rewrite_shard
from shardify.build.job import Task
from shardify.build.plan import BuildPlan, ShardPlan, plan_build
from shardify.build.previous import Previous, load_previous
from shardify.build.settings import BuildSettings
from shardify.build.tables import write_tables
from shardify.executors.local import run_tasks
from shardify.format import index
from shardify.format.schema import SPLITS
from shardify.format.shard import read_journal
from shardify.interrupt import Interrupts
from shardify.machine import usable_cores
from shardify.progress import Progress
from shardify.sources.boxes import match_boxes, read_boxes
from shardify.sources.catalog import Catalog, list_sources
from shardify.text import count_remarks


@dataclass
class BuildReport:
    """What a build did, for the summary and the exit code."""

    meta: dict
    clips: dict[str, Counter]  # split → class → clips
    failures: Counter  # reason → inputs
    remarks: Counter  # column of info.REMARKS → clips
    inputs: int = 0
    ok_inputs: int = 0
    failed_inputs: int = 0
    ignored: int = 0
    new_inputs: int = 0
    dropped_inputs: int = 0  # by --prune and --rebuild-changed, or tried again
    resumed_shards: int = 0
    decoders: Counter = field(default_factory=Counter)  # "cpu" | "cuda" → new videos
    seconds: float = 0.0


def build(
    data: Path,
    out: Path,
    settings: BuildSettings,
    *,
    manifest: Path | None = None,
    boxes: Path | None = None,
    workers: int | None = None,
    timeout_seconds: float = 600.0,
    changes: Changes | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> BuildReport:
    """Turn every video below `data` into clips in the shards folder `out`.

    Videos that an earlier build packed stay where they are, but for `changes`; an interrupted build goes on after
    its last finished shard. Raises ShardifyError, with the exit code to use, for all that stops a build.
    """
    start = time.monotonic()
    catalog = list_sources(data, manifest)
    with commit.lock_folder(out):
        commit.roll_forward(out)
        previous, plan = plan_after(load_previous(out, settings), catalog, data, out, settings, boxes, changes, say)
        rewrites = plan_rewrites(previous, plan.shards) if previous else []
        names = {shard.name for shard in [*plan.shards, *rewrites]}
        finished = previous.shard_names if previous else set()
        commit.remove_leftovers(out, finished, names)
        if previous and not (plan.shards or plan.rejected or previous.dropped or plan.renamed):
            return _report(catalog, plan, previous.meta, previous.rows, start)
        commit.begin(out, settings)
        decoders = Counter()
        run = functools.partial(run_tasks, workers=workers or usable_cores(), timeout_seconds=timeout_seconds)
        entries, resumed = _build_shards(out, plan.shards, settings, run, decoders, say)
        entries += [rewrite_shard(out, rewrite, settings.codec) for rewrite in rewrites]
        if previous:
            commit.bury(out, previous.rewritten)
        meta, rows = write_tables(out, settings, plan, entries, previous)
        commit.remove_leftovers(out, index.shard_names(meta))
        report = _report(catalog, plan, meta, rows, start)
        report.resumed_shards, report.decoders = resumed, decoders
        report.dropped_inputs = len(previous.dropped) if previous else 0
        return report


def plan_after(
    previous: Previous | None,
    catalog: Catalog,
    data: Path,
    out: Path | None,
    settings: BuildSettings,
    boxes: Path | None,
    changes: Changes | None,
    say: Callable[[str], None],
) -> tuple[Previous | None, BuildPlan]:
    """What of the earlier build in `out` stays, and what is to be built; raises the ShardifyErrors that stop it."""
    drift: list[str] = []
    if previous:
        previous, drift = apply_changes(previous, catalog, out / "index.json", changes or Changes())
    found, lines = match_boxes(read_boxes(boxes), data) if boxes else (None, [])
    plan = plan_build(catalog, settings, previous, found)
    if previous and plan.renamed:
        rows = [{**row, "group": plan.renamed.get(row["group"], row["group"])} for row in previous.rows]
        previous = replace(previous, rows=rows)
    for line in plan.notes + lines + drift:
        say(line)
    if plan.shards and settings.decoder == "cuda":
        from shardify.video.nvdec import check_cuda

        check_cuda()
    return previous, plan


def _build_shards(
    out: Path, shards: list[ShardPlan], settings: BuildSettings, run: Callable, decoders: Counter, say: Callable
) -> tuple[list[dict], int]:
    """Journal entries of all shards in plan order, and how many of them were finished already."""
    ids = {shard.name: plan_hash(shard, settings) for shard in shards}
    done = {shard.name: read_journal(out, shard.name, ids[shard.name]) for shard in shards}
    missing = [shard for shard in shards if done[shard.name] is None]
    resumed = len(shards) - len(missing)
    if resumed:
        say(f"going on: {resumed} of {len(shards)} shards are finished already")
    progress = Progress(sum(len(shard.tasks) for shard in missing))
    in_hand = 0

    def tasks() -> Iterator[Task]:
        for number, shard in enumerate(missing):
            for task in shard.tasks:
                if interrupts.requested and number > in_hand:
                    return
                yield task

    with Interrupts() as interrupts, contextlib.closing(progress):
        results = run(tasks(), settings)
        with contextlib.closing(results):
            for in_hand, shard in enumerate(missing):  # noqa: B007 (read by `tasks`)
                done[shard.name] = build_shard(out, shard, ids[shard.name], settings.codec, results, progress, decoders)
                if interrupts.requested:
                    raise KeyboardInterrupt
    return [done[shard.name] for shard in shards], resumed


def _report(catalog: Catalog, plan: BuildPlan, meta: dict, rows: list[dict], start: float) -> BuildReport:
    clips = {split: Counter() for split in SPLITS}
    for row in rows:
        if row["status"] == "ok":
            clips[row["split"]][row["class"]] += 1
    ok = {row["source"] for row in rows if row["status"] == "ok"}
    failures = Counter(row["error"] for row in rows if row["status"] == "failed")
    return BuildReport(
        meta=meta,
        clips=clips,
        failures=failures,
        remarks=count_remarks(rows),
        inputs=len(ok) + failures.total(),
        ok_inputs=len(ok),
        failed_inputs=failures.total(),
        ignored=catalog.ignored,
        new_inputs=sum(len(shard.tasks) for shard in plan.shards) + len(plan.rejected),
        seconds=time.monotonic() - start,
    )
