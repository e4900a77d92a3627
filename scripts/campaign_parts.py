"""Build a folder in parts, kill some of them, and compare the folder with the one of a single build.

    python scripts/campaign_parts.py [--builds 20] [--seed 0]

Each of the builds has 2 to 4 parts in random order, three at once, two of them started twice; half of all are killed
(SIGKILL) at a moment drawn at random, every other one follows a plan that was written before. The build at the end
must give the same bytes, with nothing left over. Exit code 1 if anything is wrong.
"""

from __future__ import annotations

import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from campaign_kill import OPTIONS, make_data, run, tree

AT_ONCE = 3


def build_in_parts(command: tuple, draw: random.Random, seconds: float) -> str:
    """Start all parts, kill some, and let the build end; how many of each. seconds: that a single build takes."""
    count, planned, killed = draw.randint(2, 4), draw.random() < 0.5, 0
    if planned:
        run((*command, "--plan-only"), {0})
    parts = [*range(1, count + 1), *draw.choices(range(count + 1), k=2)]
    draw.shuffle(parts)
    with ThreadPoolExecutor(AT_ONCE) as machines:
        started = []
        for part in parts:
            until = draw.uniform(0, AT_ONCE * seconds) if draw.random() < 0.5 else None
            killed += until is not None
            started.append(machines.submit(run, (*command, "--part", f"{part}/{count}"), {0, -signal.SIGKILL}, until))
        for each in started:
            each.result()
    run(command, {0})
    return f"{count} parts, {len(parts)} started, {killed} of them to be killed{', planned before' * planned}"


@click.command()
@click.option("--builds", default=20, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(builds: int, seed: int) -> None:
    outcomes = Counter()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder).resolve()
        make_data(work / "data")
        start = time.monotonic()
        run(build_into(work, "reference"), {0})
        seconds, reference = time.monotonic() - start, tree(work / "reference")
        for number in range(builds):
            start = time.monotonic()
            how = build_in_parts(build_into(work, "parts"), random.Random(f"{seed}:{number}"), seconds)
            outcome = "same" if tree(work / "parts") == reference else "different"
            outcomes[outcome] += 1
            shutil.rmtree(work / "parts")
            click.echo(f"{outcome}  {time.monotonic() - start:5.1f} s  {how}")
    click.echo(f"{builds} builds in parts: {dict(outcomes)}")
    sys.exit(outcomes["same"] != builds)


def build_into(work: Path, name: str) -> tuple:
    return (sys.executable, "-m", "shardify", "build", work / "data", work / name, *OPTIONS)


if __name__ == "__main__":
    main()
