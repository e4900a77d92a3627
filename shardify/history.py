"""What an output folder already holds, and how the new tables replace the old ones all at once."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shardify.errors import BusyError, FormatError, UsageError
from shardify.index import ShardIndex, all_shards, is_as_written, json_bytes, read_index, read_rows
from shardify.pack import file_sha256, journal_path, sync_folder, write_atomically
from shardify.schema import SHARD
from shardify.settings import BuildSettings

TABLES = ("samples.npy", "samples.csv", "README.md")
UNFINISHED = ".build.json"  # the settings of a build that has no index yet


@dataclass(frozen=True)
class Previous:
    """The finished build that a folder holds, and what of it the next tables leave out."""

    meta: dict
    samples: np.ndarray
    rows: list[dict[str, str]]
    dropped: frozenset[str] = frozenset()  # sources that are gone, or are to be packed again

    @property
    def shard_names(self) -> set[str]:
        return shard_names(self.meta)

    @functools.cached_property
    def rewritten(self) -> set[str]:
        """Names of the shards that hold a clip of a dropped source."""
        return {row["shard"] for row in self.rows if row["status"] == "ok" and row["source"] in self.dropped}

    def next_number(self, split: str) -> int:
        names = [shard["name"] for shard in self.meta["splits"].get(split, {}).get("shards", [])]
        return max((int(SHARD.fullmatch(name)[2]) + 1 for name in names), default=0)


def shard_names(meta: dict) -> set[str]:
    return {shard["name"] for shard in all_shards(meta)}


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
    """The finished build in the folder, None where there is none; changes nothing.

    Raises UsageError when it was made, or begun, with other settings, or the folder holds something else.
    """
    previous = None
    if (folder / "index.json").exists():
        index = read_index(folder)
        _check_tables(index)
        _check_settings(folder, index.settings, settings)
        previous = Previous(index.meta, np.array(index.samples), read_rows(folder))
    else:
        _check_settings(folder, _begun_settings(folder), settings)
        foreign = [name for name in os.listdir(folder) if not name.startswith(".") and not SHARD.fullmatch(name)]
        if foreign and not {"samples.npy", "samples.csv"}.intersection(foreign):  # a README.md may be anybody's
            raise UsageError(f"{folder}: holds {foreign[0]} and is no shards folder; pass an empty or new one")
    ours = previous.shard_names if previous else set()
    for name in sorted(os.listdir(folder)):
        if SHARD.fullmatch(name) and name not in ours and not journal_path(folder, name).exists():
            raise UsageError(f"{folder}: holds {name}, which no build has put there; move it away, or pass a new one")
    return previous


def _check_tables(index: ShardIndex) -> None:
    """Raises FormatError where the tables are not what the last build wrote: the next ones are made from them."""
    paths = {index.folder / name: expected for name, expected in index.meta.get("sha256", {}).items()}
    wrong = [path for path, expected in paths.items() if not path.is_file() or file_sha256(path) != expected]
    if wrong or not is_as_written(index.folder):
        damaged = wrong[0] if wrong else index.folder / "index.json"
        raise FormatError(f"{damaged}: is damaged; run shardify verify --repair DATA {index.folder} first")


def begin(folder: Path, settings: BuildSettings) -> None:
    """Note the settings of a first build, for the time until there is an index."""
    note = json_bytes(settings.to_dict())
    path = folder / UNFINISHED
    if not (folder / "index.json").exists() and not (path.exists() and path.read_bytes() == note):
        write_atomically(path, note)


def _begun_settings(folder: Path) -> dict:
    """Those of an unfinished build that has finished a shard already; else none."""
    if not any(SHARD.fullmatch(name) for name in os.listdir(folder)):
        return {}
    try:
        return json.loads((folder / UNFINISHED).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def _check_settings(folder: Path, old: dict, settings: BuildSettings) -> None:
    new = settings.to_dict()
    old = old and BuildSettings().to_dict() | old  # settings that came later stood at their defaults
    changed = [key for key in new if old and old[key] != new[key]]
    if changed:
        listed = ", ".join(f"{key} {old[key]} → {new[key]}" for key in changed)
        raise UsageError(f"{folder}: was built with other settings ({listed}); pass the same, or another folder")


def commit(folder: Path, files: dict[str, bytes]) -> None:
    """Replace the tables and index.json: wherever this is cut off, the folder is the old or the new one."""
    for name in TABLES:
        write_atomically(folder / f".new-{name}", files[name])
    write_atomically(folder / ".new-index.json", files["index.json"])  # from here on it rolls forward
    roll_forward(folder)


def roll_forward(folder: Path) -> None:
    """Finish a commit that was cut off, or clear away one that had not come far enough."""
    rolls = (folder / ".new-index.json").exists()
    for name in TABLES:
        new = folder / f".new-{name}"
        if new.exists():
            os.replace(new, folder / name) if rolls else new.unlink()
    if rolls:
        sync_folder(folder)
        os.replace(folder / ".new-index.json", folder / "index.json")
        sync_folder(folder)


def bury(folder: Path, names: Collection[str]) -> None:
    """Leave an empty journal entry for shards that the next index will not name: then they are leftovers."""
    for name in names:
        write_atomically(journal_path(folder, name), b"{}")


def remove_leftovers(folder: Path, indexed: Collection[str], wanted: Collection[str] = ()) -> None:
    """Drop temporary files, and shards with a journal entry that neither the index nor a plan names.

    indexed: names of the finished shards, which are never touched. wanted: names of those in work.
    """
    is_built = (folder / "index.json").exists()
    for name in os.listdir(folder):
        shard = name[1:].removesuffix(".json")
        if (name.startswith(".") and name.endswith(".tmp")) or (name == UNFINISHED and is_built):
            (folder / name).unlink()
        elif name.startswith(".") and SHARD.fullmatch(shard) and shard not in wanted:
            if shard not in indexed:
                (folder / shard).unlink(missing_ok=True)
            (folder / name).unlink()
