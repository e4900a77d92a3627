"""A build whose shards are made by the machines of a cluster, one task each; all have the same folders."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from shardify.build import commit
from shardify.build.build_shard import build_shard, library_versions, plan_hash
from shardify.build.encode import Outcome, pack_videos
from shardify.build.parts.planned_shard import differences, from_line, other_file, to_line
from shardify.build.plan import ShardPlan
from shardify.build.request import BuildRequest
from shardify.errors import ShardifyError, UsageError
from shardify.executors.base import Cluster
from shardify.executors.ray import RayCluster
from shardify.interrupt import Interrupts
from shardify.progress import Progress
from shardify.storage.local import list_names

logger = logging.getLogger(__name__)

WORKERS = 4  # decoding processes of a task


def open_cluster(request: BuildRequest) -> Cluster:
    """The cluster that `request.on` names. Raises UsageError where it cannot be used."""
    kind, _, address = request.on.partition(":")
    if kind != "ray":
        raise UsageError(f"--on is {request.on}; write ray, or ray:ADDRESS, for example ray:10.0.0.1:6379")
    if request.sources.is_remote or request.target.address:
        raise UsageError("--on ray takes DATA and SHARDS from a file system that all machines have, not from a bucket")
    if request.settings.decoder == "cuda":
        raise UsageError("--on ray decodes with CPUs; leave out --decoder cuda, or pass --part where there are GPUs")
    return RayCluster(address or "auto", request.workers or WORKERS)


def build_on_cluster(request: BuildRequest, shards: list[ShardPlan]) -> None:
    """Let the cluster build shards; each of them has a journal entry afterwards.

    Raises ShardifyError where a machine sees other files or has other libraries than this one, or where shards have
    failed: then the others are finished.
    """
    cluster, versions, reasons = open_cluster(request), library_versions(request.settings), {}
    with (
        Interrupts() as interrupts,
        commit.driving(request.out) as token,
        contextlib.closing(Progress(len(shards), "shard")) as progress,
    ):
        work = functools.partial(build_planned, request=_absolute(request), versions=versions, token=token)
        lines = (to_line(shard, request) for shard in shards)
        with contextlib.closing(cluster.as_completed(work, lines, lambda: interrupts.requested)) as done:
            for line, outcome in done:
                failed = isinstance(outcome, str)
                if failed:
                    reasons[line["name"]] = outcome
                machines, lost = cluster.machines()
                progress.advance(0 if failed else outcome, failed, f"{machines} machines, {lost} lost")
    said = _said_of(reasons, request.out, len(shards))
    if interrupts.requested:
        if said:
            logger.warning(said)
        raise KeyboardInterrupt
    if said:
        raise ShardifyError(f"{said}, the others are finished: run the same command again for these")


def build_planned(line: dict, *, request: BuildRequest, versions: dict[str, str], token: str) -> int:
    """Build one shard on this machine; how many clips it holds.

    line: of `to_line`. versions: the libraries of the machine that has planned. token: of `commit.driving`.
    Raises ShardifyError where this machine differs, or another build has taken over.
    """
    out, settings, host = request.out, request.settings, socket.gethostname()
    commit.check_driver(out, token)
    if differing := differences(library_versions(settings), versions):
        raise ShardifyError(f"{host} has other libraries, or another kind of processor ({differing}); install the same")
    shard = from_line(line, request.data)
    if plan_hash(shard, settings) != line["plan"]:
        where = other_file(line, shard) or f"{shard.name} is planned otherwise"
        raise ShardifyError(f"{host} sees other files: {where}; mount the same folder at the same place everywhere")
    outcomes = pack_videos(
        shard.jobs,
        settings,
        workers=request.workers,
        timeout_seconds=request.timeout_seconds,
        faces_model=request.faces_model,
    )
    with contextlib.closing(outcomes):
        entry = build_shard(out, shard, line["plan"], settings, _fenced(outcomes, out, token))
    return entry["samples"]


def _fenced(outcomes: Iterator[Outcome], out: Path, token: str) -> Iterator[Outcome]:
    """The outcomes; after the last one, before the shard is published, whether it is still wanted."""
    yield from outcomes
    commit.check_driver(out, token)


def _absolute(request: BuildRequest) -> BuildRequest:
    """For machines whose working folder is another."""
    model = request.faces_model and request.faces_model.absolute()
    workers = request.workers or WORKERS
    return replace(
        request, data=request.data.absolute(), out=request.out.absolute(), faces_model=model, workers=workers
    )


def _said_of(reasons: dict[str, str], out: Path, count: int) -> str:
    """The first of the shards that have failed, and how many of all these are; empty where there is none."""
    if not reasons:
        return ""
    name, reason = min(reasons.items())
    hosts = _hosts(out, name)
    begun = f"; begun and not finished on {', '.join(hosts)}" if hosts else ""
    return f"{name} failed ({reason}{begun}); {len(reasons)} of {count} shards failed"


def _hosts(out: Path, name: str) -> list[str]:
    """The machines that have begun a shard and not finished it, by the temporary files that they have left."""
    left = (re.fullmatch(rf"\.{re.escape(name)}\.(.+)\.[0-9a-f]{{8}}\.tmp", other) for other in list_names(out))
    return sorted({match[1] for match in left if match})
