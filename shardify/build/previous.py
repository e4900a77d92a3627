"""The finished build that a folder holds already, and whether it can be continued."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shardify.errors import FormatError, UsageError
from shardify.format.index import VERSION, ShardIndex, is_as_written, read_index, read_rows, shard_names
from shardify.format.members import members_of
from shardify.format.schema import SHARD
from shardify.format.settings import BuildSettings
from shardify.format.shard import journal_path
from shardify.storage.local import file_sha256, list_names

UNFINISHED = ".build.json"  # the settings of a build that has no index yet
PLAN = ".plan.jsonl"  # what is to be built, where several machines build a part each
DRIVER = ".driver"  # which build a cluster works for


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


def load_previous(folder: Path, settings: BuildSettings) -> Previous | None:
    """The finished build in the folder, None where there is none; changes nothing.

    Raises UsageError when it was made, or begun, with other settings, or the folder holds something else.
    """
    previous = None
    if (folder / "index.json").exists():
        index = read_index(folder)
        check_version(index.meta, folder)
        _check_tables(index)
        _check_settings(folder, index.settings, settings)
        previous = Previous(index.meta, np.array(index.samples), read_rows(folder))
    else:
        _check_settings(folder, _begun_settings(folder), settings)
        foreign = [name for name in list_names(folder) if not name.startswith(".") and not SHARD.fullmatch(name)]
        if foreign and not {"samples.npy", "samples.csv"}.intersection(foreign):  # a README.md may be anybody's
            raise UsageError(f"{folder}: holds {foreign[0]} and is no shards folder; pass an empty or new one")
    ours = previous.shard_names if previous else set()
    for name in list_names(folder):
        if SHARD.fullmatch(name) and name not in ours and not journal_path(folder, name).exists():
            raise UsageError(f"{folder}: holds {name}, which no build has put there; move it away, or pass a new one")
    return previous


def check_version(meta: dict, folder: Path) -> None:
    """Raises UsageError where the clips have not all that new ones would have, or more: no build can go on there."""
    if meta["version"] != VERSION:
        raise UsageError(
            f"{folder}: is of format version {meta['version']}, which is read, trained on and verified, but no longer "
            f"written; build into a new folder"
        )
    for name in sorted(meta["members"].keys() - members_of(BuildSettings.from_dict(meta["settings"])).keys()):
        raise UsageError(
            f"{folder}: its clips have the member {name}, which is added after a build; build or repair the folder "
            f"that it was made of, and make it again"
        )


def _check_tables(index: ShardIndex) -> None:
    """Raises FormatError where the tables are not what the last build wrote: the next ones are made from them."""
    paths = {index.folder / name: expected for name, expected in index.meta.get("sha256", {}).items()}
    wrong = [path for path, expected in paths.items() if not path.is_file() or file_sha256(path) != expected]
    if wrong or not is_as_written(index.folder):
        damaged = wrong[0] if wrong else index.folder / "index.json"
        raise FormatError(f"{damaged}: is damaged; run shardify verify --repair DATA {index.folder} first")


def _begun_settings(folder: Path) -> dict:
    """Those of an unfinished build that has finished a shard already; else none."""
    if not any(SHARD.fullmatch(name) for name in list_names(folder)):
        return {}
    try:
        return json.loads((folder / UNFINISHED).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def _check_settings(folder: Path, old: dict, settings: BuildSettings) -> None:
    if not old:
        return
    new = vars(settings)
    old = vars(BuildSettings()) | old  # settings that came later stood at their defaults
    changed = [key for key in new if old[key] != new[key]]
    if changed:
        listed = ", ".join(f"{key} {old[key]} → {new[key]}" for key in changed)
        raise UsageError(f"{folder}: was built with other settings ({listed}); pass the same, or another folder")
