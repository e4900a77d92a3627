"""Kill builds from a bucket into a bucket everywhere, or let their network fail, and compare with a build of folders.

    python scripts/campaign_bucket.py [--kills 50] [--faults 20] [--seed 0]

The server is moto's, on loopback. Each build is killed (SIGKILL) at moments drawn at random, five times at most, and
begun again with --take-over until it ends. Every second one is a later build of fewer videos, with --prune, into a
bucket that has the shards of all. Each bucket must then hold the bytes of such a build on this machine, with nothing
left over, and the scratch folder must be empty. Then two builds at once: one must end with code 4, the other well.
Last, builds over a proxy that fails at times: each must give that tree too, or end in one line within two minutes, and
then give it over a sound network. Exit code 1 if anything is wrong.
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
from campaign_kill import OPTIONS, make_data, tree

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))
from buckets import KEYS, Proxy, make_bucket, moto_endpoint

from shardify.storage import remote
from shardify.storage.address import Address

BUSY = 4  # exit code
MOST = 5  # kills of one build
FAULTS = ("503", "429", "reset", "half", "short", "hang", "lost")
HANGS_AFTER = 120  # seconds
QUICK = """if True:
    from shardify.storage import attempts
    attempts.BOUNDS = attempts.Bounds(connect=0.5, request=1, tries=6, total=10)
    from shardify.__main__ import main
    main()
"""  # the program, in bounds for a network that fails


class History:
    """One build from a bucket into a bucket, and the tree that it gives on this machine.

    before: the shards folder that lies in the bucket when it begins, if any.
    """

    def __init__(self, work: Path, data: Path, before: Path | None = None, *options: str) -> None:
        self.work, self.before, self.options = work, before, options
        self.videos = make_bucket(moto_endpoint()) / "videos"
        for path in data.rglob("*.*"):
            remote.write_bytes(self.videos / path.relative_to(data).as_posix(), path.read_bytes())
        self.folder = work / f"shards-of-{data.name}"
        if before:
            shutil.copytree(before, self.folder)
        if self.build(data, self.folder).wait():
            raise SystemExit("the build on this machine has failed")
        out, start = self.bucket(), time.monotonic()
        if self.build(self.videos, out).wait():
            raise SystemExit("the build into a bucket has failed")
        self.seconds = time.monotonic() - start

    def bucket(self) -> Address:
        """The shards folder of a new bucket, as the build is to find it."""
        out = make_bucket(moto_endpoint()) / "shards"
        for path in self.before.iterdir() if self.before else ():
            remote.upload(out / path.name, path)
        return out

    def build(self, data: Path | Address, out: Path | Address, *options: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "shardify", "build", str(data), str(out), *OPTIONS, *self.options, *options]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([*command, "--scratch", self.work / "scratch"], **quiet)

    def killed(self, draw: random.Random, most: int) -> tuple[int, str]:
        """How often one build was killed until it ended, `most` times at most, and what came of it."""
        out, kills = self.bucket(), 0
        while True:
            process = self.build(self.videos, out, "--take-over")
            try:
                process.wait(draw.uniform(0, self.seconds) if kills < most else None)
                break
            except subprocess.TimeoutExpired:
                kills += 1
            finally:
                process.kill()  # also where the campaign itself is ended
                process.wait()
        if process.returncode:
            return kills, f"exit code {process.returncode}"
        return kills, self.compare(out)

    def compare(self, out: Address) -> str:
        here = Path(tempfile.mkdtemp(dir=self.work))
        for file in remote.list_files(out):
            remote.download(out / file.name, here / file.name)
        left = [path.name for path in (self.work / "scratch").iterdir()]
        is_same = tree(here) == tree(self.folder) and not left
        return "same" if is_same else f"different, {left} in the scratch folder"

    def failing(self, draw: random.Random) -> str:
        """What comes of one build over a network that fails at times."""
        out, fault, often = self.bucket(), draw.choice(FAULTS), draw.choice([0.02, 0.1, 0.3, 0.8])
        command = [sys.executable, "-c", QUICK, "build", str(self.videos), str(out), *OPTIONS, *self.options]
        with Proxy(moto_endpoint(), lambda *_: fault if draw.random() < often else "") as proxy:
            environment = {**os.environ, "AWS_ENDPOINT_URL": proxy.endpoint}
            scratch = ["--scratch", self.work / "scratch"]
            try:
                done = subprocess.run(
                    [*command, *scratch], env=environment, capture_output=True, text=True, timeout=HANGS_AFTER
                )
            except subprocess.TimeoutExpired:
                return f"{fault}: hangs"
        if done.returncode == 0:
            return self.compare(out)
        lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        if len(lines) != 1 or "Traceback" in done.stderr:
            return f"{fault}: no single line: {done.stderr[-500:]}"
        again = self.build(self.videos, out, "--take-over").wait()
        return f"one line, then {self.compare(out)}" if again == 0 else f"{lines[0]}; again: exit code {again}"

    def two_at_once(self) -> str:
        out = self.bucket()
        both = [self.build(self.videos, out) for _ in range(2)]
        codes = sorted(process.wait() for process in both)
        return self.compare(out) if codes == [0, BUSY] else f"exit codes {codes}"


def make_histories(work: Path) -> list[History]:
    """A first build, and a later one of fewer videos that prunes."""
    make_data(work / "all")
    shutil.copytree(work / "all", work / "fewer", ignore=shutil.ignore_patterns("v0*"))
    first = History(work, work / "all")
    return [first, History(work, work / "fewer", first.folder, "--prune")]


@click.command()
@click.option("--kills", default=50, show_default=True)
@click.option("--faults", default=20, show_default=True, help="Builds over a network that fails.")
@click.option("--seed", default=0, show_default=True)
def main(kills: int, faults: int, seed: int) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started here ends, too
    os.environ |= {**KEYS, "AWS_ENDPOINT_URL": moto_endpoint()}
    outcomes, done, number = Counter(), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        histories = make_histories(Path(folder).resolve())
        while done < kills:
            draw, most = random.Random(f"{seed}:{number}"), min(kills - done, MOST)
            times, outcome = histories[number % 2].killed(draw, most)
            done, number = done + times, number + 1
            outcomes[outcome] += 1
            click.echo(f"{outcome}: a build that was killed {times} times")
        at_once, start = histories[0].two_at_once(), time.monotonic()
        click.echo(f"{done} kills of {number} builds: {dict(outcomes)}; two builds at once: {at_once}")
        ended = Counter(histories[i % 2].failing(random.Random(f"{seed}:fault:{i}")) for i in range(faults))
    seconds = time.monotonic() - start
    click.echo(f"{faults} builds over a network that fails: {dict(ended)}, {seconds / max(1, faults):.0f} s each")
    well = ended["same"] + ended["one line, then same"] == faults
    sys.exit(outcomes.total() != outcomes["same"] or at_once != "same" or not well)


if __name__ == "__main__":
    main()
