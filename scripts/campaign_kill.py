"""Kill builds at many points, run them again, and compare the folder with the one of an undisturbed build.

    python scripts/campaign_kill.py [--points 200] [--seed 0] [--jobs 1]

A third of the points are moments drawn at random (SIGKILL or Ctrl-C to the whole process group), a third system
calls that change files (SIGKILL on entering the n-th one, by strace --inject), a third the same calls failing with
ENOSPC or EIO. Without strace all are moments. Every build is disturbed twice before it may end. Two histories: a
first build, and a later one that prunes, rebuilds and tries again. Takes about 6 s a point on one core. Exit code 1
if any folder differs or holds a leftover.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import click
import numpy as np

MUTATING = "write,pwrite64,writev,rename,renameat,renameat2,unlink,unlinkat,mkdir,fsync,fdatasync,ftruncate,flock"
BUILD = (sys.executable, "-m", "shardify.cli", "build")
KINDS = (None, ("signal=KILL",), ("error=ENOSPC", "error=EIO"))
OPTIONS = ("--size", "32", "--frames", "4", "--shard-size", "6", "--workers", "2")
CHANGES = ("--prune", "--rebuild-changed", "--retry-failed")


def make_video(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed)
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for _ in range(5):
            picture = noise.integers(0, 256, (32, 32, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))


def make_data(folder: Path) -> None:
    for i in range(30):
        make_video(folder / ("real", "fake")[i % 2] / f"v{i:02d}.mp4", i)
    (folder / "real" / "broken.mp4").write_bytes(b"no video")
    (folder / "fake" / "empty.mp4").touch()


def change_data(folder: Path) -> None:
    """Gone, changed, mended and new videos."""
    (folder / "real" / "v04.mp4").rename(folder / "real" / "w04.mp4")
    (folder / "fake" / "v07.mp4").unlink()
    make_video(folder / "fake" / "v11.mp4", 111)
    make_video(folder / "real" / "broken.mp4", 112)
    for i in range(30, 38):
        make_video(folder / ("real", "fake")[i % 2] / f"v{i:02d}.mp4", i)


def run(
    data: Path,
    out: Path,
    options: tuple,
    prefix: tuple = (),
    seconds: float | None = None,
    stop: signal.Signals = signal.SIGKILL,
) -> None:
    """Build until it ends or is stopped after `seconds`; the whole process group is gone afterwards."""
    command = [*prefix, *BUILD, str(data), str(out), *OPTIONS, *options]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, start_new_session=True, stdout=log, stderr=log)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        for sign in (stop, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            process.wait()
        log.seek(0)
        printed = log.read().decode(errors="replace")
    fine = {0, 1, -signal.SIGKILL} if prefix else {0, -stop, 128 + stop}
    if process.returncode not in fine or (process.returncode == 1 and "error: " not in printed):
        raise SystemExit(f"exit code {process.returncode} of {command}: {printed}")


def tree(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


class History:
    """One situation to be killed in: data, the folder before, and the folder after an undisturbed build."""

    def __init__(self, work: Path, name: str, data: Path, before: Path | None, options: tuple) -> None:
        self.work, self.name, self.data, self.before, self.options = work, name, data, before, options
        out = self.fresh("reference")
        start = time.monotonic()
        run(data, out, options)
        self.seconds = time.monotonic() - start
        self.reference = tree(out)
        self.calls = self._count_calls()

    def fresh(self, name: str) -> Path:
        out = self.work / f"{self.name}-{name}"
        if self.before:
            shutil.copytree(self.before, out)
        return out

    def _count_calls(self) -> int:
        if not shutil.which("strace"):
            return 0
        log = self.work / f"{self.name}.strace"
        out = self.fresh("count")
        run(self.data, out, self.options, ("strace", "-qq", "-o", str(log), "-e", f"trace={MUTATING}"))
        return len(re.findall(r"^\w+\(", log.read_text(errors="replace"), re.M))

    def disturb_twice(self, number: int, draw: random.Random) -> str:
        """Disturb a build, disturb it again, let it end; what became of it."""
        out = self.fresh(str(number))
        for attempt in range(2):
            kind = KINDS[(number + attempt) % 3] if self.calls else None
            if kind:
                inject = f"inject={MUTATING}:{draw.choice(kind)}:when={draw.randrange(1, self.calls + 1)}"
                run(self.data, out, self.options, ("strace", "-qq", "-o", os.devnull, "-e", inject))
            else:
                stop = draw.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGINT))
                run(self.data, out, self.options, (), draw.uniform(1, self.seconds), stop)
        run(self.data, out, self.options)
        found = tree(out)
        shutil.rmtree(out)
        if found == self.reference:
            return "same"
        return "leftovers" if self.reference.items() <= found.items() else "different"


@click.command()
@click.option("--points", default=200, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--jobs", default=1, show_default=True, help="Builds at the same time.")
def main(points: int, seed: int, jobs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_data(work / "first")
        first = History(work, "first", work / "first", None, ())
        shutil.copytree(work / "first", work / "later")
        change_data(work / "later")
        later = History(work, "later", work / "later", work / "first-reference", CHANGES)
        for history in (first, later):
            click.echo(f"{history.name} build: {history.seconds:.1f} s, {history.calls} system calls to be killed at")
        with ThreadPoolExecutor(jobs) as pool:
            found = pool.map(
                lambda n: (first, later)[n % 2].disturb_twice(n, random.Random(f"{seed}:{n}")),
                range(points // 2),
            )
            results = Counter()
            for done, outcome in enumerate(found, 1):
                results[outcome] += 1
                if done % 10 == 0 or outcome != "same":
                    click.echo(f"{2 * done} kill points: {dict(results)}")
    bad = f"{results['different']} differences, {results['leftovers']} leftovers"
    click.echo(f"{2 * results.total()} kill points, {bad}")
    sys.exit(results.total() != results["same"])


if __name__ == "__main__":
    main()
