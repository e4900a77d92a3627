"""An estimate of a build: its plan, and a sample of its videos really decoded. Nothing is written."""

from __future__ import annotations

import contextlib
import logging
import random
import shutil
import statistics
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from shardify.build import previous
from shardify.build.build import plan_after
from shardify.build.encode import make_samples, pack_videos
from shardify.build.job import Job
from shardify.build.request import BuildRequest
from shardify.errors import ShardifyError
from shardify.format.members import members_of
from shardify.format.records import Head
from shardify.format.settings import BuildSettings
from shardify.format.shard import Sample
from shardify.machine import usable_cores
from shardify.sources.fingerprint import source_bytes
from shardify.text import clip_tables, duration, failure_lines, human_bytes

logger = logging.getLogger(__name__)

SAMPLE_VIDEOS = 16
SAMPLE_SECONDS = 60.0  # for the sample by the clock, and for each of its videos on the CPU
TAR_BLOCK = 512
TABLES = 4  # index.json, samples.npy, samples.csv, README.md


@dataclass(frozen=True)
class Measured:
    """One video of the sample; `bytes` is what its clips take in a tar, `sounding` counts those with sound."""

    seconds: float
    clips: int
    bytes: int
    sounding: int


@dataclass(frozen=True)
class Estimate:
    """What `build` would add to the folder."""

    settings: BuildSettings
    heads: list[Head]
    counts: dict[str, dict[str, Counter]]  # head → split → class, empty where unlabelled → clips, if no video fails
    groups: int
    videos: int
    shards: int
    rejected: Counter  # reason → inputs that cannot be used, as their place or name says
    packed: int  # inputs that an earlier build has dealt with
    measured: list[Measured]
    failures: Counter  # reason → videos of the sample
    workers: int
    free_bytes: int | None  # where SHARDS is to be

    @property
    def is_promising(self) -> bool:
        """Whether there is something to build, or nothing left to do, and the sample gave a clip."""
        return bool(self.measured) if self.videos else bool(self.packed)

    @property
    def num_clips(self) -> int:
        return sum(map(Counter.total, self.counts[self.heads[0].name].values()))

    @property
    def ok_share(self) -> float:
        return len(self.measured) / max(1, len(self.measured) + self.failures.total())

    @property
    def num_bytes(self) -> float:
        per_clip = sum(video.bytes for video in self.measured) / max(1, sum(video.clips for video in self.measured))
        return self.num_clips * self.ok_share * per_clip

    @property
    def seconds(self) -> float:
        """By the clock, with all workers busy."""
        if not self.measured:
            return 0.0
        per_video = statistics.fmean(video.seconds for video in self.measured)
        return per_video * self.videos / min(self.workers, self.videos)

    def lines(self) -> list[str]:
        """The estimate for people."""
        lines = self._plan_lines() if self.videos else []
        if self.rejected:
            lines += [f"{self.rejected.total()} inputs cannot be used:", *failure_lines(self.rejected)]
        if self.packed:
            start = "" if self.videos else "nothing new to build: "
            lines.append(f"{start}{self.packed} inputs are in the folder already")
        return [*lines, *(self._sample_lines() if self.videos else []), "nothing was written"]

    def _plan_lines(self) -> list[str]:
        settings = self.settings
        return [
            *clip_tables(self.counts, {head.name: head.classes for head in self.heads}),
            f"{self.videos} videos of {self.groups} groups → {self.num_clips} clips of {settings.frames} frames, "
            f"{settings.size} px, {settings.codec}, in {self.shards} shards",
        ]

    def _sample_lines(self) -> list[str]:
        sampled = len(self.measured) + self.failures.total()
        lines = [f"of {sampled} videos decoded to see, {len(self.measured)} ok, {self.failures.total()} failed"]
        lines += failure_lines(self.failures)
        if self.measured and self.settings.audio != "none":
            sounding, clips = (sum(getattr(video, name) for video in self.measured) for name in ("sounding", "clips"))
            lines.append(f"{sounding} of their {clips} clips have sound")
        if not self.measured:
            return [*lines, "no video of the sample gave a clip; see the reasons above"]
        lines.append(
            f"about {human_bytes(self.num_bytes)}, and {duration(self.seconds)} with {self.workers} workers "
            f"({statistics.fmean(video.seconds for video in self.measured):.2f} s a video)"
        )
        if self.free_bytes is not None and self.num_bytes > self.free_bytes:
            lines.append(f"the disk has {human_bytes(self.free_bytes)} free: make room, or choose another")
        files = round((2 + len(members_of(self.settings))) * self.num_clips * self.ok_share) + TABLES
        lines.append(f"on Kaggle: {self.shards + TABLES} files to send, about {files} after unpacking")
        return lines


def estimate_build(request: BuildRequest) -> Estimate:
    """What `build` would do with the same request. Raises the ShardifyErrors that it would begin with."""
    settings, out = request.settings, request.out
    catalog = request.list_sources()
    _, plan = plan_after(_previous(out, settings), catalog, request)
    jobs = [job for shard in plan.shards for job in shard.jobs]
    counts = {head.name: {shard.split: Counter() for shard in plan.shards} for head in plan.heads}
    for job in jobs:
        for name, class_name in job.classes.items():
            counts[name][job.split][class_name] += settings.clips
    sample = draw_evenly(jobs)
    if sample:
        logger.info(f"decoding {len(sample)} of {len(jobs)} videos")
    measured, failures = measure_sample(sample, request)
    return Estimate(
        settings=settings,
        heads=plan.heads,
        counts=counts,
        groups=len({job.group for job in jobs}),
        videos=len(jobs),
        shards=len(plan.shards),
        rejected=Counter(row["error"] for row in plan.rejected),
        packed=len(catalog.sources) - len(jobs) - len(plan.rejected),
        measured=measured,
        failures=failures,
        workers=request.workers or usable_cores(),
        free_bytes=_free_bytes(out) if out else None,
    )


def draw_evenly(jobs: list[Job], count: int = SAMPLE_VIDEOS) -> list[Job]:
    """Jobs from small files to large ones, in an order that leaves any beginning of it fair, too."""
    by_size = sorted(jobs, key=lambda job: (source_bytes(job.path) or 0, job.key))
    count = min(count, len(by_size))
    drawn = [by_size[(2 * k + 1) * len(by_size) // (2 * count)] for k in range(count)]
    random.Random(0).shuffle(drawn)
    return drawn


def measure_sample(jobs: list[Job], request: BuildRequest) -> tuple[list[Measured], Counter]:
    """Decode as many of the jobs as SAMPLE_SECONDS allow; those that gave clips, and why the others did not."""
    measured, failures = [], Counter()
    deadline = time.monotonic() + SAMPLE_SECONDS
    limit = min(request.timeout_seconds, SAMPLE_SECONDS)
    outcomes = pack_videos(
        jobs,
        request.settings,
        workers=request.workers,
        timeout_seconds=limit,
        faces_model=request.faces_model,
        pack=measure,
        sources=request.sources,
    )
    with contextlib.closing(outcomes):
        for outcome in outcomes:
            if isinstance(outcome, str):
                failures[outcome] += 1
            else:
                measured.append(outcome)
            if time.monotonic() > deadline:
                break
    return measured, failures


def measure(job: Job, settings: BuildSettings, faces_model: Path | None) -> Measured:
    """In a worker process: what one video takes. Raises as `make_samples`."""
    start = time.perf_counter()
    samples = make_samples(job, settings, faces_model)
    seconds, sounding = time.perf_counter() - start, sum(sample.row.get("mel_present", False) for sample in samples)
    return Measured(seconds, len(samples), sum(map(_tar_bytes, samples)), sounding)


def _tar_bytes(sample: Sample) -> int:
    return sum(TAR_BLOCK + -(-len(member) // TAR_BLOCK) * TAR_BLOCK for member in sample.members.values())


def _previous(out: Path | None, settings: BuildSettings) -> previous.Previous | None:
    if out is None or not out.exists():
        return None
    if any(out.glob(".new-*")):  # reading it would mean finishing that build first
        raise ShardifyError(f"{out}: the end of an earlier build was cut off; run `shardify build` to finish it")
    return previous.load_previous(out, settings)


def _free_bytes(out: Path) -> int:
    """On the disk that `out` is, or will be, on."""
    existing = next(folder for folder in [out, *out.resolve().parents] if folder.exists())
    return shutil.disk_usage(existing).free
