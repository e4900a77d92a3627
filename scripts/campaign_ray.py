"""Build on a Ray cluster of two machines of one core, lose a part of it, and compare with a build on one machine.

    python scripts/campaign_ray.py [--builds 20] [--seed 0] [--videos 120]

Builds in which a machine, the process of a task, the driver, or the head is killed (SIGKILL) after a number of finished
shards drawn at random, while a task runs. A driver that has lost its head must end by itself in time, with one line.
Ten seconds after a driver's end none of its tasks may run, and the same command is given again, after the head's death
to a new cluster. Every build must give the same bytes, with nothing left over. Exit code 1 if anything is wrong. Takes
`pip install ray`.
"""

from __future__ import annotations

import contextlib
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
from campaign_kill import make_video, tree

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))
from ray_machines import Machines, task_processes, two_machines

OPTIONS = ("--size", "64", "--frames", "4", "--shard-size", "6")
KINDS = ("machine", "process", "driver", "head")
GONE_SECONDS = 10
HEAD_SECONDS = 60  # in which a driver without a head ends


class Campaign:
    def __init__(self, work: Path, machines: Machines) -> None:
        self.work, self.machines = work, machines

    @property
    def on(self) -> tuple[str, ...]:
        return "--on", f"ray:{self.machines.address}", "--workers", "1"

    def start(self, name: str, *options: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "shardify", "build", self.work / "data", self.work / name, *OPTIONS, *options]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, name: str, *options: str) -> None:
        """A build that ends well."""
        finish(self.start(name, *options))

    def shards(self, name: str) -> int:
        return len(list((self.work / name).glob("*.tar")))

    def disturb(self, kind: str, draw: random.Random) -> str:
        """One build that loses something; what became of it."""
        process, finished = self.start("disturbed", *self.on), draw.randrange(self.shards("reference") - 2)
        while process.poll() is None and (self.shards("disturbed") < finished or not task_processes()):
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 0.2))  # into a shard
        has_hit = process.poll() is None
        left = ""
        if kind == "driver":
            process.kill()
            process.communicate()
            left = wait_for_none()
            self.run("disturbed", *self.on)
        elif kind == "head":
            self.machines.lose_head()
            ends_without_head(process)
            left = wait_for_none()
            self.machines.start_again()
            self.run("disturbed", *self.on)
        else:
            if kind == "machine":
                self.machines.lose()
            elif tasks := task_processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(tasks[0], signal.SIGKILL)
            finish(process)
            self.machines.join()
        found, wanted = tree(self.work / "disturbed"), tree(self.work / "reference")
        shutil.rmtree(self.work / "disturbed")
        differing = sorted(name for name in found | wanted if found.get(name) != wanted.get(name))
        outcome = f"different in {', '.join(differing)}" if differing else "same"
        return outcome + left + ("" if has_hit else ", too late")


def finish(process: subprocess.Popen) -> str:
    printed, _ = process.communicate()
    if process.returncode or "Traceback" in printed:
        raise SystemExit(f"exit code {process.returncode}:\n{printed}")
    return printed


def ends_without_head(process: subprocess.Popen) -> None:
    """It may also have been done."""
    printed, _ = process.communicate(timeout=HEAD_SECONDS)
    said = [line for line in printed.splitlines() if line.startswith("error: the head of the Ray cluster at ")]
    if process.returncode not in (0, 1) or len(said) != process.returncode or "Traceback" in printed:
        raise SystemExit(f"without a head: exit code {process.returncode}:\n{printed}")


def wait_for_none() -> str:
    """Empty when no task runs after a while; else how many processes are left."""
    start = time.monotonic()
    while (left := task_processes()) and time.monotonic() - start < GONE_SECONDS:
        time.sleep(0.1)
    return f", {len(left)} processes left" if left else ""


@click.command()
@click.option("--builds", default=20, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--videos", default=120, show_default=True)
def main(builds: int, seed: int, videos: int) -> None:
    outcomes = Counter()
    with tempfile.TemporaryDirectory() as folder, two_machines() as machines:
        work = Path(folder).resolve()
        for i in range(videos):
            make_video(work / "data" / ("real", "fake")[i % 2] / f"v{i:03d}.mp4", i)
        (work / "data" / "real" / "broken.mp4").write_bytes(b"no video")
        campaign = Campaign(work, machines)
        campaign.run("reference", "--workers", "2")
        campaign.run("cluster", *campaign.on)
        if tree(work / "cluster") != tree(work / "reference"):
            raise SystemExit("a build that nothing disturbed differs")
        for number in range(builds):
            draw, kind = random.Random(f"{seed}:{number}"), KINDS[number % len(KINDS)]
            outcome = campaign.disturb(kind, draw)
            outcomes[outcome] += 1
            click.echo(f"{outcome}: a {kind} killed")
    click.echo(f"{builds} builds: {dict(outcomes)}")
    sys.exit(any(not outcome.startswith("same") or "left" in outcome for outcome in outcomes))


if __name__ == "__main__":
    main()
