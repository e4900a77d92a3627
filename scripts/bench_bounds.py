"""Build from ever more inputs, and show that memory, open files and processes do not grow with them.

    python scripts/bench_bounds.py [--inputs 100 --inputs 1000 --inputs 10000]

The inputs are hard links to a few made videos and to one that is none (a tenth of all). Peaks over the whole build,
looked up in /proc every 50 ms. Exit code 1 if the last build has more open files or processes than the first (a
few come and go), or its memory grew by more than the rows of the tables account for.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click
from campaign_kill import make_video

ROW_BYTES = 8 << 10  # of the builder's memory for one input: its source, its task, its row and line in the tables
SLACK_BYTES = 32 << 20
SLACK_COUNT = 8  # descriptors and processes that come and go
OPTIONS = ("--size", "32", "--frames", "4", "--workers", "2")


@dataclass
class Peaks:
    """The most of a build's processes at any time: bytes of memory, descriptors, and how many there are."""

    parent_bytes: int = 0
    worker_bytes: int = 0
    parent_files: int = 0
    worker_files: int = 0
    processes: int = 0


def make_inputs(made: Path, data: Path, count: int) -> None:
    for name in ("real", "fake"):
        (data / name).mkdir(parents=True)
    videos = sorted(made.iterdir())
    for i in range(count):
        os.link(videos[i % len(videos)], data / ("real", "fake")[i % 2] / f"i{i:06d}.mp4")


def watch(process: subprocess.Popen) -> Peaks:
    peaks = Peaks()
    while process.poll() is None:
        others = 0
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            is_parent = int(entry.name) == process.pid
            used = usage(Path(entry.path), process.pid)
            if used is None:
                continue
            memory, files = used
            if is_parent:
                peaks.parent_bytes, peaks.parent_files = max(peaks.parent_bytes, memory), max(peaks.parent_files, files)
            else:
                others += 1
                peaks.worker_bytes, peaks.worker_files = max(peaks.worker_bytes, memory), max(peaks.worker_files, files)
        peaks.processes = max(peaks.processes, others + 1)
        time.sleep(0.05)
    return peaks


def usage(entry: Path, session: int) -> tuple[int, int] | None:
    """Peak resident bytes and open descriptors of a process of the session; None of any other."""
    try:
        if int(entry.joinpath("stat").read_text().rpartition(")")[2].split()[3]) != session:
            return None
        files = len(os.listdir(entry / "fd"))
        lines = dict(line.split(":", 1) for line in entry.joinpath("status").read_text().splitlines() if ":" in line)
    except (OSError, ValueError, IndexError):
        return None
    return int(lines.get("VmHWM", "0 kB").split()[0]) << 10, files


@click.command()
@click.option("--inputs", type=int, multiple=True, default=(100, 1000, 10_000), show_default=True)
def main(inputs: tuple[int, ...]) -> None:
    found: list[Peaks] = []
    click.echo(f"{'inputs':>8} {'seconds':>8} {'parent':>9} {'worker':>9} {'files':>6} {'worker':>7} {'processes':>10}")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "made")
        for i in range(9):
            make_video(made / f"v{i}.mp4", i)
        (made / "x.mp4").write_bytes(b"no video")
        for count in inputs:
            data, out, start = Path(folder, f"data{count}"), Path(folder, f"shards{count}"), time.monotonic()
            make_inputs(made, data, count)
            command = [sys.executable, "-m", "shardify", "build", str(data), str(out), *OPTIONS]
            with open(Path(folder, "log"), "w+") as log:
                process = subprocess.Popen(command, start_new_session=True, stdout=log, stderr=log)
                peaks = watch(process)
                log.seek(0)
                if process.returncode or f"\n{count} inputs = " not in log.read():
                    raise SystemExit(f"exit code {process.returncode}: {Path(folder, 'log').read_text()}")
            found.append(peaks)
            memory = f"{peaks.parent_bytes >> 20:5} MiB {peaks.worker_bytes >> 20:5} MiB"
            counts = f"{peaks.parent_files:6} {peaks.worker_files:7} {peaks.processes:10}"
            click.echo(f"{count:8} {time.monotonic() - start:8.1f} {memory} {counts}")
    first, last = found[0], found[-1]
    allowed = dict.fromkeys(("parent_files", "worker_files", "processes"), SLACK_COUNT)
    allowed |= {"parent_bytes": ROW_BYTES * (inputs[-1] - inputs[0]) + SLACK_BYTES, "worker_bytes": SLACK_BYTES}
    grown = [name for name, more in allowed.items() if getattr(last, name) > getattr(first, name) + more]
    click.echo(f"grows with the inputs: {', '.join(grown)}" if grown else "bounded")
    sys.exit(bool(grown))


if __name__ == "__main__":
    main()
