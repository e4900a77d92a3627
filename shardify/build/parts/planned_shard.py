"""One planned shard as JSON, with which another machine builds it, and sees whether it has the same files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from shardify.build.build_shard import file_state, plan_hash
from shardify.build.job import Job
from shardify.build.plan import ShardPlan
from shardify.build.request import BuildRequest
from shardify.sources.source import SoundFile
from shardify.video.piece import Piece


def to_line(shard: ShardPlan, request: BuildRequest) -> dict:
    """The shard with its jobs, the states of their files, and the hash of all that decides its bytes."""
    jobs = []
    for job in shard.jobs:
        values = dataclasses.asdict(job) | {"path": _below(job.path, request.data)}
        if job.sound:
            values["sound"] = job.sound._replace(path=_below(job.sound.path, request.data))
        jobs.append(values | {"states": _states(job)})
    return {
        "name": shard.name,
        "split": shard.split,
        "number": shard.number,
        "plan": plan_hash(shard, request.settings),
        "jobs": jobs,
    }


def from_line(line: dict, data: Path) -> ShardPlan:
    """What `to_line` was given, with the data folder where this machine has it."""
    jobs = []
    for values in line["jobs"]:
        fields = {name: value for name, value in values.items() if name != "states"} | {"path": data / values["path"]}
        fields["box"] = values["box"] and tuple(values["box"])
        fields["piece"] = values["piece"] and Piece(*values["piece"])
        if values["sound"]:
            path, *others = values["sound"]
            fields["sound"] = SoundFile(data / path, *others)
        jobs.append(Job(**fields))
    return ShardPlan(line["split"], line["number"], tuple(jobs))


def other_file(line: dict, shard: ShardPlan) -> str | None:
    """Which of a shard's files differs from what was planned, and in what."""
    for planned, job in zip(line["jobs"], shard.jobs, strict=True):
        if planned["states"] != _states(job):
            return f"{job.source} (bytes and time of change {planned['states']} there, {_states(job)} here)"
    return None


def differences(there: dict, here: dict) -> str:
    """Which values differ, in words; empty where none does."""
    names = [name for name in there | here if here.get(name) != there.get(name)]
    return ", ".join(f"{name} {there.get(name)} there, {here.get(name)} here" for name in names)


def _below(path: Path, data: Path) -> str:
    """Relative to the data folder, which may lie elsewhere on another machine."""
    return str(path.relative_to(data) if path.is_relative_to(data) else path.absolute())


def _states(job: Job) -> list[list[int]]:
    return [file_state(path) for path in (job.path, *([job.sound.path] if job.sound else []))]
