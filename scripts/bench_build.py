"""What a whole build costs above decoding alone, on all cores, and the memory it takes.

    python scripts/bench_build.py                                       # 100 videos of 720p, 10 s each
    python scripts/bench_build.py --videos 10000 --small --rounds 1    # of 360p, 3 s each

Both sides run in fresh processes and take turns: `shardify build`, and a pool of processes that does nothing but
`decode_video` on the same files. Every name is a hard link to one of a few encoded videos. Ratios are medians of
the rounds; memory is the largest process of either side.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_decode import make_video

from shardify.video.decode import decode_video

DISTINCT = 4  # encoded videos that the names link to
LARGE, SMALL = (1280, 720, "yuv420p", 300, 250), (640, 360, "yuv420p", 100, 100)


def link_videos(folder: Path, count: int, small: bool) -> Path:
    """data/<class>/<number>.mp4, `count` names in all."""
    originals = [folder / f"original{i}.mp4" for i in range(DISTINCT)]
    for path in originals:
        make_video(path, *(SMALL if small else LARGE))
    for i in range(count):
        target = folder / "data" / ("real", "fake")[i % 2] / f"{i:06d}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(originals[i % DISTINCT], target)
    return folder / "data"


def decode_only(data: Path, workers: int) -> None:
    with multiprocessing.get_context("forkserver").Pool(workers) as pool:
        for _ in pool.imap_unordered(decode_and_drop, sorted(data.rglob("*.mp4")), chunksize=1):
            pass


def decode_and_drop(path: Path) -> None:
    decode_video(path)


def timed(command: list[str]) -> tuple[float, float]:
    """Wall seconds and the peak memory, in MB, of the largest process among the command and its children."""
    start = time.perf_counter()
    measured = [sys.executable, "-c", MEASURE, *command]
    done = subprocess.run(measured, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return time.perf_counter() - start, int(done.stdout.split()[-1]) / 1024


MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=100)
    parser.add_argument("--small", action="store_true", help="360p, 100 frames, instead of 720p, 300 frames")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--decode-only", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.decode_only:
        decode_only(options.decode_only, options.workers)
        return
    with tempfile.TemporaryDirectory() as scratch:
        data, shards = link_videos(Path(scratch), options.videos, options.small), Path(scratch, "shards")
        workers = ["--workers", str(options.workers)]
        build = [sys.executable, "-m", "shardify", "build", str(data), str(shards), *workers]
        decode = [sys.executable, __file__, "--decode-only", str(data), *workers]
        rows = []
        for round_number in range(options.rounds):
            shutil.rmtree(shards, ignore_errors=True)
            sides = {}
            for name, command in sorted({"build": build, "decode": decode}.items(), reverse=round_number % 2 == 1):
                sides[name] = timed(command)
            rows.append(sides)
            (built, built_mb), (decoded, decoded_mb) = sides["build"], sides["decode"]
            print(
                f"build {built:.1f} s, {built_mb:.0f} MB; decoding alone {decoded:.1f} s, {decoded_mb:.0f} MB; "
                f"ratio {built / decoded:.3f}",
                flush=True,
            )
        ratio = statistics.median(sides["build"][0] / sides["decode"][0] for sides in rows)
        print(f"{options.videos} videos, {options.workers} workers: build ÷ decoding alone {ratio:.3f} (median)")


if __name__ == "__main__":
    main()
