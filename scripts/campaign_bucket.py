"""Kill builds from a bucket into a bucket everywhere, run them again, and compare with a build of folders.

    python scripts/campaign_bucket.py [--kills 50] [--seed 0]

The server is moto's, on loopback. Each build is killed (SIGKILL) at moments drawn at random, and begun again with
--take-over until it ends. Every bucket must then hold the bytes of the build on this machine, with nothing left over,
and the scratch folder must be empty. Last, two builds at once: one must end with code 4, the other well. Exit code 1
if anything is wrong.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click
from campaign_kill import OPTIONS, make_data, tree

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))
from buckets import KEYS, make_bucket, moto_endpoint

from shardify.storage import remote
from shardify.storage.address import Address

BUSY = 4  # exit code


class Campaign:
    """A folder to work in, videos in it and in a bucket, and the tree that a build of them here gives."""

    def __init__(self, work: Path) -> None:
        self.work = work
        make_data(work / "data")
        self.videos = make_bucket(moto_endpoint()) / "videos"
        for path in (work / "data").rglob("*.*"):
            remote.write_bytes(self.videos / path.relative_to(work / "data").as_posix(), path.read_bytes())
        if self.build(work / "data", work / "reference").wait():
            raise SystemExit("the build on this machine has failed")
        self.reference = tree(work / "reference")
        start = time.monotonic()
        if self.build(self.videos, make_bucket(moto_endpoint()) / "shards").wait():
            raise SystemExit("the build into a bucket has failed")
        self.seconds = time.monotonic() - start

    def build(self, data: Path | Address, out: Path | Address, *options: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "shardify", "build", str(data), str(out), *OPTIONS, *options]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([*command, "--scratch", self.work / "scratch"], **quiet)

    def killed(self, draw: random.Random, most: int) -> tuple[int, str]:
        """How often one build was killed until it ended, `most` times at most, and what came of it."""
        out, kills = make_bucket(moto_endpoint()) / "shards", 0
        while True:
            process = self.build(self.videos, out, "--take-over")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(draw.uniform(0, self.seconds) if kills < most else None)
            if process.poll() is not None:
                break
            process.kill()
            process.wait()
            kills += 1
        if process.returncode:
            return kills, f"exit code {process.returncode}"
        return kills, self.compare(out)

    def compare(self, out: Address) -> str:
        here = Path(tempfile.mkdtemp(dir=self.work))
        for file in remote.list_files(out):
            remote.download(out / file.name, here / file.name)
        left = [path.name for path in (self.work / "scratch").iterdir()]
        return "same" if tree(here) == self.reference and not left else f"different, {left} in the scratch folder"

    def two_at_once(self) -> str:
        out = make_bucket(moto_endpoint()) / "shards"
        both = [self.build(self.videos, out) for _ in range(2)]
        codes = sorted(process.wait() for process in both)
        return self.compare(out) if codes == [0, BUSY] else f"exit codes {codes}"


@click.command()
@click.option("--kills", default=50, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(kills: int, seed: int) -> None:
    os.environ |= {**KEYS, "AWS_ENDPOINT_URL": moto_endpoint()}
    outcomes, done, number = Counter(), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(Path(folder).resolve())
        while done < kills:
            times, outcome = campaign.killed(random.Random(f"{seed}:{number}"), kills - done)
            done, number = done + times, number + 1
            outcomes[outcome] += 1
            click.echo(f"{outcome}: a build that was killed {times} times")
        at_once = campaign.two_at_once()
    click.echo(f"{done} kills of {number} builds: {dict(outcomes)}; two builds at once: {at_once}")
    sys.exit(outcomes.total() != outcomes["same"] or at_once != "same")


if __name__ == "__main__":
    main()
