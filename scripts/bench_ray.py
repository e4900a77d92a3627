"""The time of a build on a Ray cluster of two machines of one core, beside `--workers 2` without Ray.

    python scripts/bench_ray.py [--videos 96] [--rounds 3]

The sides take turns, on videos of 3 to 9 seconds (480×270, H.264) in shards of 12 and of 4, on tiny videos in
shards of 6, and on two tiny videos, which shows what a build on the cluster takes whatever its length: the import
of Ray, its connection, and the start and imports of its worker processes. The start of the cluster itself is left out.
Seconds are medians; those of CPU are of the builds and of the cluster's processes, sampled. All shards must be equal.
Takes `pip install ray`.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from time import monotonic

import click
import numpy as np
from campaign_kill import make_video, tree

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))
from media import numbered_video
from ray_machines import two_machines

TICKS = os.sysconf("SC_CLK_TCK")
SAMPLED_SECONDS = 0.25
REAL, TINY = ("--size", "112", "--frames", "16"), ("--size", "64", "--frames", "4")


def make_long(path: Path, seed: int) -> None:
    """3 to 9 seconds of noise, each picture of its own, so that decoding takes as long as that of a camera's video."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    noise = draw.integers(88, 168, (540, 960, 3), np.uint8)

    def picture(number: int, width: int, height: int) -> np.ndarray:
        top, left = draw.integers(height), draw.integers(width)
        return noise[top : top + height, left : left + width]

    numbered_video(path, 90 + 37 * seed % 180, size=(480, 270), picture=picture, options={"preset": "ultrafast"})


class CpuSeconds(threading.Thread):
    """The CPU seconds of all processes that this one has started, and those below them, by a sample now and then."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._over, self._first, self._last = threading.Event(), {}, {}
        self._sample()
        self._first = dict(self._last)

    def run(self) -> None:
        while not self._over.wait(SAMPLED_SECONDS):
            self._sample()

    def _sample(self) -> None:
        parents, used = {}, {}
        for place in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = place.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended
            parents[int(place.parent.name)] = int(fields[1])
            used[int(place.parent.name)] = (int(fields[11]) + int(fields[12])) / TICKS
        for pid in parents:
            above = parents[pid]
            while above in parents and above != os.getpid():
                above = parents[above]
            if above == os.getpid():
                self._last[pid] = used[pid]

    def stop(self) -> float:
        self._over.set()
        self.join()
        return sum(self._last.values()) - sum(self._first.values())


def run(data: Path, out: Path, *options: str) -> tuple[float, float]:
    """Seconds of one build, and those of CPU."""
    shutil.rmtree(out, ignore_errors=True)
    cpu, start = CpuSeconds(), monotonic()
    cpu.start()
    command = [sys.executable, "-m", "shardify", "build", data, out, *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    seconds = monotonic() - start
    if done.returncode:
        raise SystemExit(done.stdout)
    return seconds, cpu.stop()


def compare(work: Path, address: str, videos: int, rounds: int) -> None:
    """Print a line for each kind of build."""
    on = ("--on", f"ray:{address}", "--workers", "1")
    cases = {
        f"{videos} videos, shards of 12": (work / "real", *REAL, "--shard-size", "12"),
        f"{videos} videos, shards of 4": (work / "real", *REAL, "--shard-size", "4"),
        f"{5 * videos} tiny videos, shards of 6": (work / "tiny", *TINY, "--shard-size", "6"),
        "2 tiny videos": (work / "two", *TINY),
    }
    click.echo("| build | shards | here, s (CPU) | on the cluster, s (CPU) | ratio |\n|---|---|---|---|---|")
    for name, (data, *options) in cases.items():
        here, there = [], []
        for _ in range(rounds):
            here.append(run(data, work / "here", *options, "--workers", "2"))
            there.append(run(data, work / "there", *options, *on))
        if tree(work / "here") != tree(work / "there"):
            raise SystemExit(f"{name}: the folders differ")
        medians = [[statistics.median(values) for values in zip(*side, strict=True)] for side in (here, there)]
        shown = " | ".join(f"{seconds:.1f} ({cpu:.1f})" for seconds, cpu in medians)
        count = len(list((work / "here").glob("*.tar")))
        click.echo(f"| {name} | {count} | {shown} | {medians[1][0] / medians[0][0]:.2f} |")


@click.command()
@click.option("--videos", default=96, show_default=True, help="Of several seconds; five times as many are tiny.")
@click.option("--rounds", default=3, show_default=True)
def main(videos: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder).resolve()
        names = [f"{('real', 'fake')[i % 2]}/v{i:04d}.mp4" for i in range(5 * videos)]
        with multiprocessing.Pool() as pool:
            pool.starmap(make_long, [(work / "real" / name, i) for i, name in enumerate(names[:videos])])
            pool.starmap(make_video, [(work / "tiny" / name, i) for i, name in enumerate(names)])
        for i, name in enumerate(names[:2]):
            make_video(work / "two" / name, i)
        with two_machines() as machines:
            compare(work, machines.address, videos, rounds)


if __name__ == "__main__":
    main()
