"""One whole shard: its jobs' samples written to one tar, under a name that says what it was made of."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from shardify import __version__
from shardify.build.job import failed_row
from shardify.build.plan import ShardPlan
from shardify.build.settings import BuildSettings
from shardify.executors.local import Outcome
from shardify.format.index import VERSION, json_bytes, sha256
from shardify.format.shard import ShardWriter
from shardify.progress import Progress


def build_shard(
    out: Path,
    shard: ShardPlan,
    plan_id: str,
    codec: str,
    results: Iterator[Outcome],
    progress: Progress,
    decoders: Counter,
) -> dict:
    writer = ShardWriter(out, shard.name, codec)
    try:
        for task in shard.tasks:
            result = next(results)
            failed = isinstance(result, str)
            if failed:
                writer.add_failure(failed_row(task, result))
            else:
                for sample in result:
                    writer.add(sample)
                decoders[result[0].decoder] += 1
            progress.advance(0 if failed else len(result), failed)
        return writer.finish(plan_id, library_versions())
    except BaseException:
        writer.abandon()
        raise


def plan_hash(shard: ShardPlan, settings: BuildSettings) -> str:
    """A hash of all that decides a shard's bytes, the state of its sources included."""
    states = []
    for task in shard.tasks:
        try:
            here = os.stat(task.path)
            state = [here.st_size, here.st_mtime_ns]
        except (OSError, ValueError):
            state = []
        states.append([task.source, task.label, task.class_name, task.target, task.group, task.box, state])
    return sha256(json_bytes([VERSION, settings.to_dict(), library_versions(), shard.name, states]))


@functools.cache
def library_versions() -> dict[str, str]:
    """All that makes the bytes of a shard."""
    import av
    from PIL import features

    codecs = {
        name: ".".join(map(str, av.library_versions[name])) for name in ("libavformat", "libavcodec", "libswscale")
    }
    jpeg = features.version("libjpeg_turbo") or features.version("jpg") or "unknown"
    return {
        "shardify": __version__,  # not that of an installation that has been left behind
        "av": av.__version__,
        **codecs,
        "pillow": version("pillow"),
        "libjpeg": jpeg,
    }
