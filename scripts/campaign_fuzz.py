"""Build from thousands of damaged videos, twice, and check that every one ends as clips or as a recorded failure.

    python scripts/campaign_fuzz.py [--mutants 2000] [--corpus FOLDER] [--seed 0] [--keep FOLDER] [--audio]

Mutants are made of the videos in FOLDER (those up to 2 MB) and of a few made here: bits flipped, ends cut off,
pieces of another file spliced in, numbers near the beginning set to extremes, blocks erased or doubled. Checked:
the exit code, the count of rows, the same bytes from both builds, `shardify verify`, the memory of every process,
that it ends.
Takes about 4 minutes for 2,000 mutants on 2 cores. Exit code 1 if anything is wrong.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click
from campaign_kill import SOUND, make_video, tree

from shardify.executors.base import MEMORY_BYTES
from shardify.format.index import read_rows
from shardify.sources.catalog import VIDEO_EXTENSIONS

SEED_BYTES = 2_000_000
EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
TIMEOUT_SECONDS = 20
SHARDIFY = (sys.executable, "-m", "shardify")
OPTIONS = ("--size", "32", "--frames", "4", "--shard-size", "200", "--timeout", str(TIMEOUT_SECONDS))


def flip_bits(data: bytearray, draw: random.Random, _: bytes) -> None:
    for _ in range(draw.choice((1, 3, 10, 100))):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def cut(data: bytearray, draw: random.Random, _: bytes) -> None:
    del data[draw.randrange(len(data)) :]


def splice(data: bytearray, draw: random.Random, other: bytes) -> None:
    start, length = draw.randrange(len(other)), draw.randrange(1, 1 << 16)
    place = draw.randrange(len(data))
    data[place : place + draw.choice((0, length))] = other[start : start + length]


def edit_header(data: bytearray, draw: random.Random, _: bytes) -> None:
    for _ in range(draw.choice((1, 2, 5))):
        width = draw.choice((1, 2, 4))
        place = draw.randrange(max(1, min(len(data), 4096) - width))
        data[place : place + width] = (draw.choice(EXTREMES) & (1 << 8 * width) - 1).to_bytes(
            width, draw.choice(("big", "little"))
        )


def erase(data: bytearray, draw: random.Random, _: bytes) -> None:
    place = draw.randrange(len(data))
    length = min(draw.randrange(1, 1 << 14), len(data) - place)
    data[place : place + length] = bytes(length)


def double(data: bytearray, draw: random.Random, _: bytes) -> None:
    place = draw.randrange(len(data))
    data[place:place] = data[place : place + draw.randrange(1, 1 << 16)]


MUTATIONS = (flip_bits, flip_bits, cut, splice, edit_header, edit_header, erase, double)


def seed_files(corpus: Path | None, made: Path) -> list[Path]:
    for i, extension in enumerate(("mp4", "mkv", "avi", "mov", "mpg", "ts")):
        make_video(made / f"made{i}.{extension}", i)
    files = sorted(made.iterdir())
    if corpus:
        files += [path for path in sorted(corpus.rglob("*")) if path.suffix[1:].lower() in VIDEO_EXTENSIONS]
    return [path for path in files if path.is_file() and 0 < path.stat().st_size <= SEED_BYTES]


def make_mutants(seeds: list[Path], data: Path, count: int, seed: int) -> None:
    for name in ("real", "fake"):
        (data / name).mkdir(parents=True)
    for i in range(count):
        draw = random.Random(f"{seed}:{i}")
        path = seeds[i % len(seeds)]
        mutant = bytearray(path.read_bytes())
        for _ in range(draw.choice((1, 1, 2))):
            if mutant:
                draw.choice(MUTATIONS)(mutant, draw, draw.choice(seeds).read_bytes())
        (data / ("real", "fake")[i % 2] / f"m{i:06d}{path.suffix.lower()}").write_bytes(mutant)


def build(data: Path, out: Path, options: tuple[str, ...], limit_seconds: float) -> tuple[int, int, int]:
    """Exit code, the largest address space and the largest resident memory of any of its processes, bytes.

    A build that takes longer than `limit_seconds` hangs: it is killed, which its exit code shows.
    """
    start = time.monotonic()
    process = subprocess.Popen([*SHARDIFY, "build", str(data), str(out), *options], start_new_session=True)
    largest = resident = 0
    while process.poll() is None:
        for entry in os.scandir("/proc"):
            if entry.name.isdigit() and int(entry.name) != process.pid:
                space, used = memory_of(Path(entry.path), process.pid)
                largest, resident = max(largest, space), max(resident, used)
        if time.monotonic() - start > limit_seconds:
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(0.1)
    return process.returncode, largest, resident


def memory_of(entry: Path, group: int) -> tuple[int, int]:
    """Peaks of a process of the group: address space and resident memory, bytes; zeros for any other process."""
    try:
        if int(entry.joinpath("stat").read_text().rpartition(")")[2].split()[2]) != group:
            return 0, 0
        lines = entry.joinpath("status").read_text().splitlines()
    except (OSError, ValueError, IndexError):
        return 0, 0
    sizes = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines if line.startswith(("VmPeak", "VmHWM"))}
    return sizes.get("VmPeak", 0), sizes.get("VmHWM", 0)


@click.command()
@click.option("--mutants", default=2000, show_default=True)
@click.option("--corpus", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--seed", default=0, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Leave the mutants here.")
@click.option("--audio", is_flag=True, help="Builds keep the sound.")
def main(mutants: int, corpus: Path | None, seed: int, keep: Path | None, audio: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_mutants(seed_files(corpus, work / "made"), work / "data", mutants, seed)
        wrong, trees = [], []
        for name in ("first", "second"):
            start = time.monotonic()
            limit = 120 + mutants * TIMEOUT_SECONDS / 10
            code, space, resident = build(work / "data", work / name, OPTIONS + SOUND * audio, limit)
            click.echo(
                f"{name} build: exit code {code}, {time.monotonic() - start:.0f} s, largest worker "
                f"{resident >> 20} MiB resident, {space >> 20} MiB of address space"
            )
            if code or space > MEMORY_BYTES:
                wrong.append(f"{name} build: exit code {code}, {space} bytes")
            trees.append(tree(work / name))
        rows = read_rows(work / "first")
        if trees[0] != trees[1]:
            wrong.append(f"builds differ in {[n for n in trees[0] if trees[0][n] != trees[1].get(n)]}")
        if len(rows) != mutants or any(row["status"] == "failed" and not row["error"] for row in rows):
            wrong.append(f"{len(rows)} rows for {mutants} mutants, or a failure without a reason")
        if subprocess.run([*SHARDIFY, "verify", str(work / "first")]).returncode:
            wrong.append("verify found damage")
        reasons = Counter(row["error"].split(":")[0] or "ok" for row in rows)
        click.echo("\n".join(f"{count:6}  {reason}" for reason, count in reasons.most_common(20)))
        if keep:
            shutil.copytree(work, keep, dirs_exist_ok=True)
    click.echo("\n".join(wrong) or "nothing wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
