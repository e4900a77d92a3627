"""One whole shard: the samples of its jobs in one tar, and a journal entry that says what it was made of."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from shardify import __version__
from shardify.build.encode import Outcome
from shardify.build.job import failed_row
from shardify.build.plan import ShardPlan
from shardify.faces.detector import detector_version
from shardify.format.index import VERSION, json_bytes, sha256
from shardify.format.members import members_of
from shardify.format.settings import BuildSettings
from shardify.format.shard import ShardWriter, read_journal
from shardify.machine import vector_units


def build_shard(
    out: Path, shard: ShardPlan, plan_id: str, settings: BuildSettings, outcomes: Iterable[Outcome]
) -> dict:
    """Write one tar and its journal entry, which is returned; nothing is done where an earlier attempt has finished.

    This is the whole, idempotent unit of a build: an executor for many machines would hand out one call per shard,
    with `pack_videos(shard.jobs, …)` as the outcomes. Attempts write under names of their own and give the same
    bytes, and an entry counts only with the tar that has its hash. On one machine the calls come in order and their
    outcomes from one stream, so that workers stay busy from one shard to the next.

    plan_id: `plan_hash` from before anything was decoded. outcomes: of the shard's jobs, in order; not begun where
    there is nothing to do.
    """
    entry = read_journal(out, shard.name, plan_id)
    if entry is not None:
        return entry
    with ShardWriter(out, shard.name, members_of(settings)) as writer:
        for job, outcome in zip(shard.jobs, outcomes, strict=True):
            if isinstance(outcome, str):
                writer.add_failure(failed_row(job, outcome))
                continue
            for sample in outcome:
                writer.add(sample)
        return writer.finish(plan_id, library_versions(settings))


def plan_hash(shard: ShardPlan, settings: BuildSettings) -> str:
    """A hash of all that decides a shard's bytes, the state of its sources included."""
    states = []
    for job in shard.jobs:
        named = [job.source, job.labels, job.classes, job.target, job.group, job.kind, job.original]
        has_sound = job.sound and settings.audio != "none"
        sound = [job.sound.name, job.sound.offset, file_state(job.sound.path)] if has_sound else []
        states.append([*named, job.box, file_state(job.path), *sound])
    return sha256(json_bytes([VERSION, settings.to_dict(), library_versions(settings), shard.name, states]))


def file_state(path: Path) -> list[int]:
    """What of a file changes when it does; empty where there is none."""
    try:
        here = os.stat(path)
    except (OSError, ValueError):
        return []
    return [here.st_size, here.st_mtime_ns]


@functools.cache
def library_versions(settings: BuildSettings) -> dict[str, str]:
    """The versions of all that makes the bytes of a shard, by name; that of the face detector where it is used.

    With sound also `cpu`: libav's float decoders and its resampler round differently on processors of other kinds.
    """
    import av
    from PIL import features

    codecs = {
        name: ".".join(map(str, av.library_versions[name])) for name in ("libavformat", "libavcodec", "libswscale")
    }
    sound = {
        "libswresample": ".".join(map(str, av.library_versions["libswresample"])),
        "numpy": version("numpy"),
        "cpu": vector_units(),
    }
    jpeg = features.version("libjpeg_turbo") or features.version("jpg") or "unknown"
    return {
        "shardify": __version__,  # not that of an installation that has been left behind
        "av": av.__version__,
        **codecs,
        "pillow": version("pillow"),
        "libjpeg": jpeg,
        **(sound if settings.audio != "none" else {}),
        **({"faces": detector_version(settings.faces_model)} if settings.faces else {}),
    }
