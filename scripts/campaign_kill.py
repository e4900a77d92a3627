"""Stop builds everywhere, run them again, and compare the folder with the one of an undisturbed build.

    python scripts/campaign_kill.py [--points 200] [--seed 0] [--jobs 2] [--audio]

Three histories: a first build; a later one that prunes, rebuilds and tries again; `verify --repair` of a damaged
folder. The system calls that change an undisturbed history's folder are listed with strace, and walked through in
even steps: of seven builds, four die on entering the call (SIGKILL), one sees it fail with ENOSPC, one with EIO, one
is told to stop (Ctrl-C). A quarter of the points are moments drawn at random instead (SIGKILL or Ctrl-C to the whole
process group), a second one in every third folder; without strace all are. Checked after going on: the same bytes,
nothing left over, every shard that was finished still the same file; on the way: exit codes and no traceback.
Exit code 1 if anything is wrong.
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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import click
import numpy as np

MUTATING = "openat,creat,write,pwrite64,writev,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,link,"
MUTATING += "linkat,symlink,symlinkat,fsync,fdatasync,ftruncate,truncate,fallocate,copy_file_range,sendfile,flock"
READS = re.compile(r"openat\([^)]*O_RDONLY(?!\|O_CREAT)")
WAYS = ("signal=KILL", "error=ENOSPC", "signal=KILL", "signal=INT", "signal=KILL", "error=EIO", "signal=KILL")
FINE = {"signal=KILL": {-signal.SIGKILL}, "signal=INT": {0, 130}, "error=ENOSPC": {0, 1}, "error=EIO": {0, 1}}
# temporary names are random, but strace watches files by their names: here each attempt has the same
FIXED_NAMES = "import secrets; secrets.token_hex = lambda n: '0' * 2 * n; from shardify.__main__ import main; main()"
SHARDIFY = (sys.executable, "-c", FIXED_NAMES)
OPTIONS = ("--size", "32", "--frames", "4", "--shard-size", "6", "--workers", "2")
SOUND = ("--audio", "auto", "--audio-mels", "16", "--audio-columns", "32", "--audio-low", "300")
CODECS = {".mp4": "aac", ".mkv": "libopus", ".mov": "alac", ".ts": "aac"}  # of sound; others have MPEG audio
CHANGES = ("--prune", "--rebuild-changed", "--retry-failed")


def make_video(path: Path, seed: int) -> None:
    """Half a second of noise, in pictures and in sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed)
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        sound = container.add_stream(CODECS.get(path.suffix, "mp2"), rate=48_000, layout="mono")
        sound.codec_context.open()
        size = sound.codec_context.frame_size
        convert = av.AudioResampler(sound.codec_context.format.name, "mono", 48_000)
        for _ in range(24_000 // size):
            samples = noise.normal(0, 0.1, (1, size)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
            frame.sample_rate = 48_000
            for part in convert.resample(frame):
                container.mux(sound.encode(part))
        container.mux(sound.encode(None))
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


def damage(folder: Path) -> None:
    """A shard with a flipped bit, one cut, one gone; and each table but index.json.

    samples.csv in a row of a sound shard: what it says of failed inputs and of damaged shards stands nowhere else.
    """
    first, second, third, *_, sound = sorted(folder.glob("*.tar"))
    table = folder / "samples.csv"
    for path in (first, folder / "samples.npy", table, folder / "README.md"):
        content = bytearray(path.read_bytes())
        content[content.index(sound.name.encode()) if path == table else len(content) // 2] ^= 4
        path.write_bytes(content)
    os.truncate(second, 3000)
    third.unlink()


def run(command: tuple, fine: set[int], seconds: float | None = None, stop: signal.Signals = signal.SIGKILL) -> None:
    """Run until it ends or is stopped after `seconds`; the whole process group is gone afterwards."""
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
    unexplained = process.returncode == 1 and "error: " not in printed and "verify" not in command
    if process.returncode not in fine or "Traceback" in printed or unexplained:
        raise SystemExit(f"exit code {process.returncode} of {' '.join(map(str, command))}:\n{printed}")


def tree(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


class History:
    """One situation to be stopped in: how the folder begins, the command, and what it gives undisturbed."""

    def __init__(self, work: Path, name: str, before: Path | None, command: Callable[[Path], tuple]) -> None:
        self.work, self.name, self.before, self.command = work, name, before, command
        out, start = self.fresh("reference"), time.monotonic()
        run(command(out), {0})
        self.seconds = time.monotonic() - start
        self.reference = tree(out)
        self.names: set[str] = set()  # of the folder's files, and "" for itself
        self.calls: list[tuple[str, int]] = []  # name of the system call, and that it is the n-th of its name
        if shutil.which("strace"):
            self._list_calls()

    def fresh(self, name: str) -> Path:
        out = self.work / f"{self.name}-{name}"
        if self.before:
            shutil.copytree(self.before, out)
        return out

    def _list_calls(self) -> None:
        out, log = self.fresh("list"), self.work / "strace"
        run(("strace", "-qq", "-y", "-o", str(log), "-e", f"trace={MUTATING}", *self.command(out)), {0})
        counts = Counter()
        for line in log.read_text(errors="replace").splitlines():
            names = re.findall(rf'[<"]{re.escape(str(out))}/?([^/>"]*)[>"]', line)
            if names:
                call = line.partition("(")[0]
                counts[call] += 1
                self.names.update(names)
                if not READS.match(line):
                    self.calls.append((call, counts[call]))

    def stop_at_call(self, out: Path, number: int, way: str) -> str:
        call, nth = self.calls[number]
        paths = [argument for name in sorted(self.names) for argument in ("-P", str(out / name))]
        inject = f"inject={call}:{way}:when={nth}"
        run(("strace", "-qq", "-o", os.devnull, *paths, "-e", inject, *self.command(out)), FINE[way])
        return f"{way.partition('=')[2]} at {call}"

    def stop_at_moment(self, out: Path, draw: random.Random) -> str:
        stop = draw.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGINT))
        earliest = 1.0 if stop == signal.SIGINT else 0.0  # a program cannot catch it before its own first line
        run(self.command(out), {0, -signal.SIGKILL, 130}, draw.uniform(earliest, self.seconds), stop)
        return f"{stop.name} at a moment"

    def go_on(self, out: Path) -> str:
        """Let it end; what became of the folder."""
        kept = {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in out.glob("*.tar")} if out.exists() else {}
        kept = {name: at for name, at in kept.items() if tree(out)[name] == self.reference.get(name)}
        run(self.command(out), {0})
        found = tree(out)
        if found != self.reference:
            return "leftovers" if self.reference.items() <= found.items() else "differences"
        rewritten = [
            name for name, at in kept.items() if ((out / name).stat().st_ino, (out / name).stat().st_mtime_ns) != at
        ]
        return "finished shards written again" if rewritten else "same"


def disturb(history: History, number: int, position: int | None, draw: random.Random) -> tuple[str, list[str]]:
    """Stop a fresh copy of a history once or twice, let it end; what became of it, and how it was stopped."""
    out, ways = history.fresh(str(number)), []
    if position is not None:
        ways.append(history.stop_at_call(out, position, WAYS[number % len(WAYS)]))
    if position is None or number % 3 == 0:
        ways.append(history.stop_at_moment(out, draw))
    outcome = history.go_on(out)
    shutil.rmtree(out)
    return outcome, ways


def make_histories(work: Path, options: tuple[str, ...]) -> list[History]:
    make_data(work / "data")
    shutil.copytree(work / "data", work / "changed")
    change_data(work / "changed")
    first = History(work, "first", None, lambda out: (*SHARDIFY, "build", work / "data", out, *options))
    built = work / "first-reference"
    later = History(work, "later", built, lambda out: (*SHARDIFY, "build", work / "changed", out, *options, *CHANGES))
    shutil.copytree(built, work / "damaged")
    damage(work / "damaged")
    repair = History(
        work, "repair", work / "damaged", lambda out: (*SHARDIFY, "verify", "--repair", work / "data", out)
    )
    if repair.reference != first.reference:
        raise SystemExit("verify --repair does not give back the folder")
    return [first, later, repair]


@click.command()
@click.option("--points", default=200, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--jobs", default=2, show_default=True, help="Builds at the same time.")
@click.option("--audio", is_flag=True, help="Builds keep the sound.")
def main(points: int, seed: int, jobs: int, audio: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        trials = []
        for history in make_histories(Path(folder).resolve(), OPTIONS + SOUND * audio):
            calls = len(history.calls)
            click.echo(f"{history.name}: {history.seconds:.1f} s, {calls} system calls change the folder")
            count = -(-points // 4) if calls else -(-points // 3)
            trials += [(history, i, i * calls // count if calls else None) for i in range(count)]
        done = pool.map(lambda trial: disturb(*trial, random.Random(f"{seed}:{trial[0].name}:{trial[1]}")), trials)
        outcomes, stops = Counter(), Counter()
        for number, (outcome, ways) in enumerate(done, 1):
            outcomes[outcome] += 1
            stops.update(ways)
            if outcome != "same":
                click.echo(f"{outcome}: {trials[number - 1][0].name} {trials[number - 1][1:]} {ways}")
            if number % 15 == 0:
                click.echo(f"{stops.total()} points: {dict(outcomes)}")
    for way, count in sorted(stops.items()):
        click.echo(f"{count:5}  {way}")
    bad = ", ".join(
        f"{outcomes[name]} {name}" for name in ("differences", "leftovers", "finished shards written again")
    )
    click.echo(f"{stops.total()} points: {bad}")
    sys.exit(outcomes.total() != outcomes["same"])


if __name__ == "__main__":
    main()
