"""A part of a build, for one of several machines, and the plan that all of them follow; no tables are written."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass

from shardify.build import commit
from shardify.build.build import build_shards, check_machine, plan_after
from shardify.build.parts.plan_file import Part, continues_build, read_plan, write_plan
from shardify.build.plan import ShardPlan
from shardify.build.previous import PLAN, load_previous
from shardify.build.request import BuildRequest, Changes
from shardify.errors import UsageError
from shardify.format.shard import journal_path

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PartReport:
    """What a part of a build has done, and how far all parts together have come."""

    shards: int  # of this part
    resumed_shards: int  # that were finished before
    failed_inputs: int  # in these shards
    finished: int  # shards of the whole plan
    planned: int


def build_part(request: BuildRequest, part: Part) -> PartReport:
    """Build the shards of one part that are missing, of the plan in the folder, which the first part makes.

    The same part may be built twice at once, and any part while others are. Raises ShardifyError as `build` does, and
    where this machine sees other files or has other libraries than the one that made the plan.
    """
    _refuse_changes(request)
    out = request.out
    check_machine(request)
    with commit.lock_folder(out, shared=True):
        commit.check_settled(out)
        planned = (out / PLAN).exists()
        if planned and not continues_build(out):
            logger.info("the plan is of before the last build: it is made anew")
            planned = False
        if not planned:
            write_plan(request, _plan(request))
        shards, names = read_plan(request, part) if (out / PLAN).exists() else ([], [])
        commit.begin(out, request.settings)
        entries, resumed = build_shards(request, shards, Counter())
        failed = sum(row["status"] == "failed" for entry in entries for row in entry["rows"])
        finished = sum(journal_path(out, name).exists() for name in names)
    return PartReport(len(shards), resumed, failed, finished, len(names))


def make_plan(request: BuildRequest) -> list[ShardPlan]:
    """Write the plan that the parts of a build follow, in place of one that is there; its shards."""
    _refuse_changes(request)
    check_machine(request)
    with commit.lock_folder(request.out):
        commit.roll_forward(request.out)
        shards = _plan(request)
        write_plan(request, shards)
    return shards


def _plan(request: BuildRequest) -> list[ShardPlan]:
    previous = load_previous(request.out, request.settings)
    return plan_after(previous, request.list_sources(), request)[1].shards


def _refuse_changes(request: BuildRequest) -> None:
    """Raises UsageError: what they give up stands in tables, which parts do not write, and one build holds a bucket."""
    if request.target.address:
        raise UsageError(f"{request.target.address}: parts are built into a folder that all machines have; pass one")
    if request.changes != Changes():
        raise UsageError(
            "--retry-failed, --prune and --rebuild-changed are for a whole build: pass them without --part and "
            "--plan-only"
        )
