"""A build from end to end: sources, splits, shards, tables. It resumes where an earlier one was stopped."""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from shardify.audio.log_mel import mel_bands
from shardify.build import commit
from shardify.build.build_shard import build_shard, plan_hash
from shardify.build.changes import Rewrite, apply_changes, plan_rewrites, rewrite_shard
from shardify.build.encode import Outcome, pack_videos
from shardify.build.job import Job
from shardify.build.parts.on_cluster import build_on_cluster, open_cluster
from shardify.build.plan import BuildPlan, ShardPlan, plan_build
from shardify.build.previous import Previous, load_previous
from shardify.build.request import BuildRequest
from shardify.build.tables import write_tables
from shardify.build.twins import find_twins
from shardify.errors import ShardifyError, UsageError
from shardify.faces.detector import detector_version, open_detector
from shardify.format import index
from shardify.format.members import members_of
from shardify.format.shard import journal_path, read_journal
from shardify.format.words import SPLITS
from shardify.interrupt import Interrupts
from shardify.progress import Progress
from shardify.sources.boxes import match_boxes, read_boxes
from shardify.sources.catalog import Catalog
from shardify.text import count_remarks, count_sound

logger = logging.getLogger(__name__)


@dataclass
class BuildReport:
    """What a build did, for the summary and the exit code."""

    meta: dict
    counts: dict[str, dict[str, Counter]]  # head → split that has any → class, empty where unlabelled → clips
    failures: Counter  # reason → inputs
    remarks: Counter  # column of info.REMARKS → clips
    sound: Counter = field(default_factory=Counter)  # as of text.count_sound
    inputs: int = 0
    ok_inputs: int = 0
    failed_inputs: int = 0
    ignored: int = 0
    new_inputs: int = 0
    dropped_inputs: int = 0  # by --prune and --rebuild-changed, or tried again
    resumed_shards: int = 0
    decoders: Counter = field(default_factory=Counter)  # "cpu" | "cuda" → new videos
    seconds: float = 0.0


def build(request: BuildRequest) -> BuildReport:
    """Turn every video below `request.data` into clips in the shards folder `request.out`.

    Videos that an earlier build packed stay where they are, but for `request.changes`; an interrupted build resumes
    after its last finished shard. What the user should know is logged. Raises ShardifyError, with the exit code to
    use, for all that stops a build.
    """
    start = time.monotonic()
    out, settings = request.out, request.settings
    if request.on:
        open_cluster(request)  # which may fail, before the sources are listed
    catalog = request.list_sources()
    with commit.lock_folder(out):
        commit.roll_forward(out)
        previous, plan = plan_after(load_previous(out, settings), catalog, request)
        rewrites = plan_rewrites(previous, plan.shards) if previous else []
        names = {shard.name for shard in [*plan.shards, *rewrites]}
        finished = previous.shard_names if previous else set()
        commit.remove_leftovers(out, finished, names)
        request.target.sync()
        if previous and not (plan.shards or plan.rejected or previous.dropped or plan.renamed):
            return _report(catalog, plan, previous.meta, previous.rows, start)
        commit.begin(out, settings)
        request.target.sync()
        decoders = Counter()
        entries, resumed = build_shards(request, plan.shards, decoders)
        entries += [_rewrite(request, rewrite) for rewrite in rewrites]
        if previous:
            commit.give_up(out, previous.rewritten)
        meta, rows = write_tables(request, plan, entries, previous)
        commit.remove_leftovers(out, index.shard_names(meta))
        request.target.sync()
        report = _report(catalog, plan, meta, rows, start)
        report.resumed_shards, report.decoders = resumed, decoders
        report.dropped_inputs = len(previous.dropped) if previous else 0
        return report


def plan_after(previous: Previous | None, catalog: Catalog, request: BuildRequest) -> tuple[Previous | None, BuildPlan]:
    """What of the earlier build stays, and what is to be built; raises the ShardifyErrors that stop it."""
    changed: list[str] = []
    if previous:
        catalog = catalog.spelled_as({head.name: head.classes for head in index.heads_in(previous.meta)})
        previous, catalog, changed = apply_changes(previous, catalog, request)
    boxes, lines = match_boxes(read_boxes(request.boxes), request.data) if request.boxes else (None, [])
    plan = plan_build(catalog, request.settings, previous, boxes, request.sources)
    twins = find_twins(plan, previous, request)
    if previous and plan.renamed:
        rows = [{**row, "group": plan.renamed.get(row["group"], row["group"])} for row in previous.rows]
        previous = replace(previous, rows=rows)
    for line in plan.notes + lines + changed + twins:
        logger.info(line)
    if twins and request.settings.strict:
        raise UsageError(f"{twins[0].removeprefix('warning: ')}; refused by --strict")
    if request.settings.audio != "none":
        mel_bands(members_of(request.settings)["mel"])  # bands too narrow are no failure of each video
    if plan.shards:
        check_machine(request)
        if request.settings.faces:
            _check_detector(request, previous)
    return previous, plan


def check_machine(request: BuildRequest) -> None:
    """Raises UsageError where this machine lacks the detector of faces or the decoder that is asked for."""
    if request.settings.faces:
        open_detector(request.faces_model)
    if request.settings.decoder == "cuda":
        from shardify.video.nvdec import check_cuda

        check_cuda()


def _check_detector(request: BuildRequest, previous: Previous | None) -> None:
    """Raises UsageError where the detector of faces is not the one that the folder was built with."""
    here = detector_version(request.settings.faces_model)
    for shard in index.all_shards(previous.meta) if previous else []:
        if (other := shard["versions"].get("faces")) != here:
            raise UsageError(
                f"{request.out}: its faces were found by {other}, and this machine has {here}; install that one, or "
                "build into a new folder"
            )


def build_shards(request: BuildRequest, shards: list[ShardPlan], decoders: Counter) -> tuple[list[dict], int]:
    """Journal entries of all shards in plan order, and how many of them were finished already."""
    out, settings = request.out, request.settings
    ids = {shard.name: plan_hash(shard, settings) for shard in shards}
    done = {name: request.target.finished(out, name, plan_id) for name, plan_id in ids.items()}
    missing = [shard for shard in shards if done[shard.name] is None]
    resumed = len(shards) - len(missing)
    if resumed:
        logger.info(f"resuming: {resumed} of {len(shards)} shards are finished already")
    if again := sum(journal_path(out, shard.name).exists() for shard in missing):
        logger.info(f"built again: {again} shards, since other videos or libraries were there, or their tar is damaged")
    if request.on:
        if missing:
            build_on_cluster(request, missing)
        return _finished(out, ids), resumed
    done |= _build_here(request, missing, ids, decoders)
    return [done[shard.name] for shard in shards], resumed


def _finished(out: Path, ids: dict[str, str]) -> list[dict]:
    """The journal entries of shards that other machines have built, each tar hashed once more."""
    entries = [read_journal(out, name, plan_id) for name, plan_id in ids.items()]
    if None in entries:
        name = list(ids)[entries.index(None)]
        raise ShardifyError(f"{out / name}: was built, and is not there or has changed; run the same command again")
    return entries


def _build_here(
    request: BuildRequest, shards: list[ShardPlan], ids: dict[str, str], decoders: Counter
) -> dict[str, dict]:
    """The journal entries of shards, by name, that are built by processes of this machine. ids: their plans' hashes."""
    done, in_hand = {}, 0

    def jobs() -> Iterator[Job]:
        for number, shard in enumerate(shards):
            for job in shard.jobs:
                if interrupts.requested and number > in_hand:
                    return
                yield job

    with (
        Interrupts() as interrupts,
        contextlib.closing(Progress(sum(len(shard.jobs) for shard in shards))) as progress,
        contextlib.closing(
            pack_videos(
                jobs(),
                request.settings,
                workers=request.workers,
                timeout_seconds=request.timeout_seconds,
                faces_model=request.faces_model,
                sources=request.sources,
            )
        ) as outcomes,
    ):
        counted = _count(outcomes, progress, decoders)
        for in_hand, shard in enumerate(shards):  # noqa: B007 (read by `jobs`)
            own = itertools.islice(counted, len(shard.jobs))
            done[shard.name] = build_shard(request.out, shard, ids[shard.name], request.settings, own)
            request.target.publish(done[shard.name])
            for _ in own:
                pass  # were the shard finished after all, the next one must not get its outcomes
            if interrupts.requested:
                raise KeyboardInterrupt
    return done


def _rewrite(request: BuildRequest, rewrite: Rewrite) -> dict:
    """The journal entry of a copy of a finished shard."""
    with request.target.here(rewrite.old):
        entry = rewrite_shard(request.out, rewrite, members_of(request.settings))
    request.target.publish(entry)
    return entry


def _count(outcomes: Iterable[Outcome], progress: Progress, decoders: Counter) -> Iterator[Outcome]:
    for outcome in outcomes:
        failed = isinstance(outcome, str)
        progress.advance(0 if failed else len(outcome), failed)
        if not failed:
            decoders[outcome[0].decoder] += 1
        yield outcome


def _report(catalog: Catalog, plan: BuildPlan, meta: dict, rows: list[dict], start: float) -> BuildReport:
    heads, splits = index.heads_in(meta), [split for split in SPLITS if meta["splits"][split]["samples"]]
    counts = {head.name: {split: Counter() for split in splits} for head in heads}
    for row in rows:
        if row["status"] == "ok":
            for head in heads:
                counts[head.name][row["split"]][head.class_in(row)] += 1
    ok = {row["source"] for row in rows if row["status"] == "ok"}
    failures = Counter(row["error"] for row in rows if row["status"] == "failed")
    return BuildReport(
        meta=meta,
        counts=counts,
        failures=failures,
        remarks=count_remarks(rows),
        sound=count_sound(rows, index.highest_hertz(meta)),
        inputs=len(ok) + failures.total(),
        ok_inputs=len(ok),
        failed_inputs=failures.total(),
        ignored=catalog.ignored,
        new_inputs=sum(len(shard.jobs) for shard in plan.shards) + len(plan.rejected),
        seconds=time.monotonic() - start,
    )
