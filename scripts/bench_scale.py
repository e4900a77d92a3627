"""What a build costs beside decoding, by number of videos and shards; nothing is decoded but one video.

    python scripts/bench_scale.py [--sizes VIDEOS:SHARDS,…]

The folder holds empty files, and each shard has a journal entry with rows like those of the one real video and a tar
of no size to speak of, so that the hashing of shards (about 1 GB/s and core) is left out. Each size has a process of
its own, which goes through a build's steps and then opens the finished folder: seconds of each step, those of CPU
among them, and the most memory that the process has had by then.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

import click
from campaign_kill import make_video

from shardify.build import commit
from shardify.build.build_shard import library_versions, plan_hash
from shardify.build.encode import make_samples
from shardify.build.job import Job
from shardify.build.parts.plan_file import Part, read_plan, write_plan
from shardify.build.plan import ShardPlan, plan_build
from shardify.build.previous import PLAN, load_previous
from shardify.build.request import BuildRequest
from shardify.build.tables import write_tables
from shardify.format.index import TABLES, json_bytes, read_index, sha256
from shardify.format.settings import BuildSettings
from shardify.format.shard import journal_path, read_journal
from shardify.sources.catalog import list_sources
from shardify.storage.local import list_names, write_atomically

IN_A_FOLDER = 1000
TAR = b"\0" * 512
COLUMNS = ("videos", "shards", "step", "s", "s of CPU", "memory, MB", "bytes")


class Steps:
    """A line for each step: how long it took, and the most memory so far."""

    def __init__(self, videos: int, shards: int) -> None:
        self._videos, self._shards = videos, shards
        self._begin()

    def _begin(self) -> None:
        self._start, self._cpu = time.perf_counter(), time.process_time()

    def done(self, name: str, size: int | str = "") -> None:
        seconds, cpu = time.perf_counter() - self._start, time.process_time() - self._cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        click.echo(f"| {self._videos} | {self._shards} | {name} | {seconds:.2f} | {cpu:.2f} | {peak} | {size} |")
        self._begin()


def make_files(data: Path, videos: int) -> None:
    """Empty files of two classes, a thousand to a folder."""
    for number in range(videos):
        folder = data / ("fake", "real")[number % 2] / f"{number // (2 * IN_A_FOLDER):04d}"
        if number % (2 * IN_A_FOLDER) < 2:
            folder.mkdir(parents=True)
        (folder / f"video-{number:07d}.mp4").touch()


def real_row(work: Path, settings: BuildSettings) -> dict:
    """That of a video's clip, in full."""
    make_video(work / "one.mp4", 0)
    labels, classes = {"class": 0}, {"class": "real"}
    job = Job(work / "one.mp4", "one.mp4", "one-0123456789abcdef", "train", labels, classes, 0.0, "g")
    (sample,) = make_samples(job, settings)
    return sample.row | {"frames_offset": 1024, "frames_length": 4096}


def entry_of(shard: ShardPlan, plan_id: str, settings: BuildSettings, row: dict) -> dict:
    """A journal entry as a worker would have left it."""
    rows = [
        row
        | {"key": job.key, "source": job.source, "split": job.split, "label": job.label, "class": job.class_name}
        | {"group": job.group, "shard": shard.name}
        for job in shard.jobs
    ]
    counts = {"samples": len(rows), "bytes": len(TAR), "sha256": sha256(TAR)}
    return {"plan": plan_id, "name": shard.name, **counts, "versions": library_versions(settings), "rows": rows}


def measure(data: Path, work: Path, videos: int, shards: int) -> None:
    settings = BuildSettings(shard_size=-(-videos // shards))
    request = BuildRequest(data, work / f"{videos}-{shards}", settings)
    out, row = request.out, real_row(work, settings)
    out.mkdir()
    steps = Steps(videos, shards)
    catalog = list_sources(data)
    steps.done("list the videos")
    plan = plan_build(catalog, settings, None)
    steps.done("plan")
    ids = {shard.name: plan_hash(shard, settings) for shard in plan.shards}
    steps.done("hash the plan (a look at each file)")
    write_plan(request, plan.shards)
    steps.done("write the plan of --plan-only", (out / PLAN).stat().st_size)
    read_plan(request, Part(1, 100))
    steps.done("read one part of 100 from it")
    (out / PLAN).unlink()
    size = 0
    for shard in plan.shards:
        entry = json_bytes(entry_of(shard, ids[shard.name], settings, row))
        (out / shard.name).write_bytes(TAR)
        write_atomically(journal_path(out, shard.name), entry)
        size += len(entry)
    steps.done("write the journal (by the workers)", size)
    list_names(out)
    commit.remove_leftovers(out, set(), set(ids))
    steps.done("list the folder of shards")
    entries = [read_journal(out, name, plan_id) for name, plan_id in ids.items()]
    steps.done("read the journal")
    write_tables(request, plan, entries, None)
    commit.remove_leftovers(out, set(ids))
    tables = sum((out / name).stat().st_size for name in ("index.json", *TABLES))
    steps.done("write the tables", tables)
    del entries, plan
    plan_build(catalog, settings, load_previous(out, settings))
    steps.done("plan again after it (nothing is new)")
    read_index(out)
    steps.done("open the folder (as training does)")


@click.command()
@click.option("--sizes", default="1000:100,100000:1000,100000:10000,1000000:10000", show_default=True)
def main(sizes: str) -> None:
    click.echo(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    with tempfile.TemporaryDirectory() as folder:
        made = {}
        for videos, shards in (map(int, size.split(":")) for size in sizes.split(",")):
            if videos not in made:
                made[videos] = Path(folder) / f"data-{videos}"
                make_files(made[videos], videos)
            process = multiprocessing.get_context("spawn").Process(
                target=measure, args=(made[videos], Path(folder), videos, shards)
            )
            process.start()
            process.join()
            if process.exitcode:
                sys.exit(1)


if __name__ == "__main__":
    main()
