"""The folder of a run: how it is chosen, what it may hold, and the lock that keeps other runs out."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from shardify.errors import BusyError
from trainer.config.load import read_yaml
from trainer.config.session import runs_folder
from trainer.errors import SettingsError

logger = logging.getLogger(__name__)

LOCK = ".trainer.lock"  # held while a run writes here; its presence says that the folder is a run's
RECORD = "results/experiment_results.json"  # there once a run is complete
CHECKPOINT = re.compile(r"^step-(\d{8})-([0-9a-f]{16})\.pth$")


@contextlib.contextmanager
def chosen_folder(out: Path | None, config: Path | None, resume: bool) -> Iterator[Path]:
    """The run's folder, by `choose_out`; a new one that nothing was written to is gone at the end."""
    chosen = choose_out(out, config, resume)
    try:
        yield chosen
    finally:
        if out is None:
            with contextlib.suppress(OSError):  # it holds something
                chosen.rmdir()


def choose_out(out: Path | None, config: Path | None, resume: bool) -> Path:
    """The run's folder; without `out`, a new one that no other process has chosen, or with `resume` the newest run's.

    Raises SettingsError where it holds another run, or something else, or where no folder can be made.
    """
    if chosen := os.environ.get("TRAINER_OUT"):  # by the process that has started one for each GPU
        return Path(chosen)
    if out is not None:
        check_free(out, resume)
        return out
    base = runs_folder() / (config.stem if config else "run")
    used = [path for path in base.parent.glob(f"{glob.escape(base.name)}*") if is_numbered(path.name, base.name)]
    if resume and (runs := [path for path in used if holds_run(path)]):
        return max(runs, key=run_number)
    try:
        base.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{base.parent} cannot be made ({error.strerror}); fix that, or pass --out") from error
    number = max(map(run_number, used), default=0) + 1
    while True:
        chosen = Path(f"{base}-{number}") if number > 1 else base
        try:
            chosen.mkdir()
            return chosen
        except FileExistsError:  # another process has just taken it
            number += 1


def is_numbered(name: str, base: str) -> bool:
    return bool(re.fullmatch(rf"{re.escape(base)}(-\d+)?", name))


def run_number(path: Path) -> int:
    tail = path.name.rpartition("-")[2]
    return int(tail) if tail.isdigit() else 1


def check_free(out: Path, resume: bool) -> None:
    """Raises SettingsError where the folder holds what a run would overwrite: another run, or other files."""
    if not out.is_dir():
        return  # what else cannot be a folder is said where it is made
    others = sorted(name for name in os.listdir(out) if name != LOCK)
    if not others:
        return
    if not holds_run(out):
        shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        raise SettingsError(f"{out} holds {shown}, but no run; pass an empty or a new folder with --out")
    if not resume:
        raise SettingsError(f"{out} holds a run already; pass --resume to continue it, or another --out")


def holds_run(out: Path) -> bool:
    """Whether a run has written here: others keep a config.yaml, models/ and results/ of their own."""
    return (out / LOCK).is_file() or any(CHECKPOINT.match(path.name) for path in out.glob("checkpoints/step-*.pth"))


def settings_of(out: Path, resume: bool) -> dict | None:
    """The settings of the run to resume as its config.yaml has them, None without one. Raises SettingsError."""
    path = out / "config.yaml"
    return read_yaml(path) if resume and holds_run(out) and path.is_file() else None


def has_trained(out: Path) -> bool:
    """Whether a run there has gone beyond its first epoch, which ends with a checkpoint."""
    history = out / "results" / "training_history.csv"
    return (out / RECORD).exists() or (history.exists() and len(history.read_bytes().splitlines()) > 2)


def read_record(out: Path) -> dict | None:
    """The run's results; None where it has not ended, or the file is damaged."""
    try:
        record = json.loads((out / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("test"), dict) else None


@contextlib.contextmanager
def hold_folder(out: Path, resume: bool) -> Iterator[None]:
    """Make the folder and hold it for one run; the kernel releases it when the process ends, in any way.

    A folder in which nothing was written does not stay. Raises SettingsError as `check_free` does, and BusyError while
    another run holds the folder.
    """
    check_free(out, resume)
    is_new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    is_read_only = (out / LOCK).exists() and not os.access(out / LOCK, os.W_OK)  # a copy of one may be
    descriptor = os.open(out / LOCK, os.O_RDONLY if is_read_only else os.O_RDWR | os.O_CREAT, 0o666)
    try:
        lock(descriptor, out)
        check_free(out, resume)  # another run may have begun and ended meanwhile
        try:
            yield
        finally:
            if os.listdir(out) == [LOCK]:
                (out / LOCK).unlink()
                if is_new:
                    out.rmdir()
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def hold_plain(out: Path) -> Iterator[None]:
    """Make a folder that is no run's and hold it, without a file, for this process.

    Raises BusyError while another process holds it.
    """
    out.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(out, os.O_RDONLY)
    try:
        lock(descriptor, out)
        yield
    finally:
        os.close(descriptor)


def is_held(out: Path) -> bool:
    """Whether a run is seen to hold the folder; on another machine its file system may not show it."""
    try:
        with open(out / LOCK) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such file, or no locks here
        return False
    return False


def lock(descriptor: int, out: Path) -> None:
    """Raises BusyError where another process has the lock; a file system without locks gets a warning."""
    busy = BusyError(f"{out}: another process is writing here; wait for it to end, or pass another --out")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise busy from error
    except OSError as error:
        logger.warning(
            f"{out}: no locks on its file system ({error.strerror}); see to it that no other process writes here"
        )
    if not os.fstat(descriptor).st_nlink:  # a run that has written nothing took the file away as it ended
        raise busy
