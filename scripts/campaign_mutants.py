"""Some fifty lines whose mistakes would hurt users in silence, changed one at a time: does the suite notice?

    python scripts/campaign_mutants.py [--jobs 2] [--only TEXT]

The changes stand in mutants.txt. Each is made in a scratch copy of the repository, where the tests that the table names
must then fail. Without it they must pass, which is looked at first. A line that is no longer found is named before
anything runs: mend its row.
Exit code 1 if a change survives or cannot be made.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import click

ROOT = Path(__file__).parents[1]
TIMEOUT_SECONDS = 600  # of one run of pytest
PRELOADED = ("torch", "torchvision.models", "sklearn.metrics", "matplotlib.pyplot", "pytest")
copy: Path  # of the repository, of this process alone
TABLE = Path(__file__).with_name("mutants.txt")


class Mutant(NamedTuple):
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file}: {self.new}"


def read_table() -> list[Mutant]:
    """The changes of mutants.txt, whose first lines say how they are written."""
    mutants, file, tests, old = [], "", (), ""
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        mark, _, text = line.strip().partition(" ")
        if mark == "#":
            continue
        if mark == "-":
            old = text
        elif mark == "+":
            mutants.append(Mutant(file, old, text, tests))
        else:
            file, package = mark, mark.partition("/")[0]
            tests = tuple(f"tests/{package}/{name}" for name in text.split())
    return mutants


def what_is_missing(mutant: Mutant) -> str | None:
    """Why a change cannot be made, or its tests cannot be run."""
    for path in (mutant.file, *(test.partition("::")[0] for test in mutant.tests)):
        if not (ROOT / path).is_file():
            return f"{path} is not there"
    count = (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old)
    return None if count == 1 else f"{mutant.file} holds this {count} times: {mutant.old}"


def copy_repository(folder: str) -> None:
    """Make this process's own copy: the files that git knows, and new ones that it does not ignore, as they are now."""
    global copy
    copy = Path(folder, str(os.getpid())).resolve()
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.split("\0"):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)


def run_tests(tests: tuple[str, ...]) -> tuple[int, str]:
    """Pytest's exit code, and the first test that failed; in a fork, where what is slow to import is there already."""
    process = os.fork()
    if not process:
        os.setsid()
        signal.alarm(TIMEOUT_SECONDS)
        with copy.with_suffix(".log").open("wb") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        os.chdir(copy)
        sys.path[:] = [str(copy), *(path for path in sys.path if not Path(path).is_relative_to(ROOT / "scripts"))]
        # no bytecode: it is told from the source's by size and seconds, and a change may leave both
        os.environ |= {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        sys.dont_write_bytecode = True
        options = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", f"--basetemp={copy}.tmp"]
        code = int(importlib.import_module("pytest").main([*options, *tests]))
        sys.stdout.flush()
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)  # what it has left behind
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", copy.with_suffix(".log").read_text(errors="replace"), re.MULTILINE)
    return code, failed[1] if failed else f"pytest's exit code is {code}"


def judge(mutant: Mutant) -> tuple[bool, str]:
    """Whether a change is noticed, and by which test."""
    path = copy / mutant.file
    source = path.read_text(encoding="utf-8")
    path.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        code, failed = run_tests(mutant.tests)
    finally:
        path.write_text(source, encoding="utf-8")
    return code == 1, failed


@click.command()
@click.option("--jobs", default=2, show_default=True, help="Runs of pytest at the same time.")
@click.option("--only", default="", help="Only changes whose file or text holds this.")
def main(jobs: int, only: str) -> None:
    mutants = [mutant for mutant in read_table() if only in f"{mutant.file} {mutant.old}"]
    missing = list(filter(None, map(what_is_missing, mutants)))
    if missing:
        raise SystemExit("\n".join(["the table does not fit the code:", *missing]))
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in PRELOADED:
        importlib.import_module(name)
    context = multiprocessing.get_context("fork")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(jobs, context, initializer=copy_repository, initargs=(folder,)) as pool,
    ):
        tests = sorted({(test,) for mutant in mutants for test in mutant.tests})
        failing = [failed for code, failed in pool.map(run_tests, tests) if code]
        if failing:
            raise SystemExit("\n".join(["these fail without any change:", *failing]))
        survived = 0
        for mutant, (is_caught, by) in zip(mutants, pool.map(judge, mutants), strict=True):
            survived += not is_caught
            click.echo(f"{'caught  ' if is_caught else 'SURVIVED'}  {mutant}  ({by})")
    click.echo(f"{len(mutants) - survived} of {len(mutants)} caught")
    sys.exit(bool(survived))


if __name__ == "__main__":
    main()
