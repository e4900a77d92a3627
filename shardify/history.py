"""What an output folder already holds, and how the new tables replace the old ones all at once."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shardify.errors import BusyError, UsageError
from shardify.index import read_index, read_rows
from shardify.pack import sync_folder, write_atomically
from shardify.settings import BuildSettings

TABLES = ("samples.npy", "samples.csv", "README.md")
SHARD = re.compile(r"^(train|val|test)-(\d{6})\.tar$")


@dataclass(frozen=True)
class Previous:
    """The finished build that a folder holds."""

    meta: dict
    samples: np.ndarray
    rows: list[dict[str, str]]

    def next_number(self, split: str) -> int:
        names = [shard["name"] for shard in self.meta["splits"].get(split, {}).get("shards", [])]
        return max((int(SHARD.match(name)[2]) + 1 for name in names), default=0)


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold the folder for one build; the kernel lets go of it when the process ends, however it ends.

    Raises BusyError when another build holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(f"{folder}: another build is running here; wait for it to end") from error
        yield
    finally:
        os.close(descriptor)


def load_previous(folder: Path, settings: BuildSettings) -> Previous | None:
    """The finished build in the folder, None where there is none.

    Raises UsageError when it was made with other settings, or the folder holds something else.
    """
    _roll_forward(folder)
    if not (folder / "index.json").exists():
        foreign = [name for name in os.listdir(folder) if not name.startswith(".") and not SHARD.match(name)]
        if foreign and not any(name in TABLES for name in foreign):
            raise UsageError(f"{folder}: holds {foreign[0]} and is no shards folder; pass an empty or new one")
        return None
    index = read_index(folder)
    old, new = index.settings, settings.to_dict()
    changed = [key for key in new if old.get(key) != new[key]]
    if changed:
        listed = ", ".join(f"{key} {old.get(key)} → {new[key]}" for key in changed)
        raise UsageError(f"{folder}: was built with other settings ({listed}); pass the same, or another folder")
    return Previous(index.meta, np.array(index.samples), read_rows(folder))


def commit(folder: Path, files: dict[str, bytes]) -> None:
    """Replace the tables and index.json: wherever this is cut off, the folder is the old or the new one."""
    for name in TABLES:
        write_atomically(folder / f".new-{name}", files[name])
    write_atomically(folder / ".new-index.json", files["index.json"])  # from here on it rolls forward
    _roll_forward(folder)


def _roll_forward(folder: Path) -> None:
    if (folder / ".new-index.json").exists():
        for name in TABLES:
            if (folder / f".new-{name}").exists():
                os.replace(folder / f".new-{name}", folder / name)
        os.replace(folder / ".new-index.json", folder / "index.json")
        sync_folder(folder)
    if (folder / "index.json").exists():
        return
    for name in TABLES:
        (folder / f".new-{name}").unlink(missing_ok=True)


def remove_leftovers(folder: Path, wanted: set[str]) -> None:
    """Drop temporary files, and shards with their journals that no plan names any more."""
    for name in os.listdir(folder):
        shard = name[1:].removesuffix(".json")
        if name.startswith(".") and name.endswith(".tmp"):
            (folder / name).unlink()
        elif name.startswith(".") and SHARD.match(shard) and shard not in wanted:
            (folder / shard).unlink(missing_ok=True)
            (folder / name).unlink()
