"""Damaged shards, built again from their videos to the very bytes that the index names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection
from pathlib import Path

from shardify.boxes import read_boxes
from shardify.build import library_versions, usable_cores
from shardify.deal import Task
from shardify.errors import FormatError, UsageError
from shardify.history import lock_folder
from shardify.index import ShardIndex, read_index, read_rows
from shardify.pack import ShardWriter, file_sha256, sync_folder
from shardify.settings import BuildSettings
from shardify.verify import is_as_written
from shardify.workers import run_tasks


def repair_shards(
    data: Path,
    folder: Path,
    names: Collection[str],
    *,
    boxes: Path | None = None,
    timeout_seconds: float = 600.0,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Replace the named shards where building them again gives the bytes of the index; say where it does not.

    Raises FormatError when the tables, which say what a shard should hold, are damaged themselves.
    """
    with lock_folder(folder):
        if not is_as_written(folder):
            raise FormatError(f"{folder / 'index.json'}: is damaged, so nothing says what the shards held; build anew")
        index = read_index(folder)
        for name, expected in index.meta["sha256"].items():
            if file_sha256(folder / name) != expected:
                raise FormatError(f"{folder / name}: is damaged, so nothing says what the shards held; build anew")
        settings = BuildSettings(**index.settings)
        if settings.boxes != (file_sha256(boxes) if boxes else None):
            raise UsageError(f"{folder}: was built with {'' if settings.boxes else 'no '}--boxes; pass the same")
        shards = {shard["name"]: shard for split in index.meta["splits"].values() for shard in split["shards"]}
        tasks = _tasks(data, index, shards.keys() & set(names), read_boxes(boxes) if boxes else {})
        for name in sorted(names):
            if name in shards:
                say(f"{name}: {_rebuild(folder, shards[name], tasks[name], settings, timeout_seconds)}")
            else:
                say(f"{name}: is no tar of this build; copy it from where it is sound, or move it away")


def _tasks(data: Path, index: ShardIndex, names: set[str], boxes: dict) -> dict[str, list[Task]]:
    """The videos of each shard, in their order."""
    tasks: dict[str, dict[str, Task]] = {name: {} for name in names}
    for row in read_rows(index.folder):
        source = row["source"]
        if row["status"] != "ok" or row["shard"] not in names or source in tasks[row["shard"]]:
            continue
        key = row["key"] if index.settings["clips"] == 1 else row["key"].rpartition("-")[0]
        tasks[row["shard"]][source] = Task(
            data / source, source, key, row["split"], int(row["label"]), row["class"], float(row["target"]),
            row["group"], boxes.get(source),
        )  # fmt: skip
    return {name: list(found.values()) for name, found in tasks.items()}


def _rebuild(folder: Path, shard: dict, tasks: list[Task], settings: BuildSettings, timeout_seconds: float) -> str:
    """What became of one shard. The damaged one stays until its replacement is known to be right."""
    writer = ShardWriter(folder, shard["name"], settings.codec)
    results = run_tasks(tasks, settings, workers=usable_cores(), timeout_seconds=timeout_seconds)
    with contextlib.closing(results), contextlib.ExitStack() as undo:
        undo.callback(writer.abandon)
        for task, result in zip(tasks, results, strict=True):
            if isinstance(result, str):
                return f"cannot be built again: {task.source}: {result}"
            for sample in result:
                writer.add(sample)
        entry = writer.seal("", library_versions())
        if entry["sha256"] != shard["sha256"]:
            return f"cannot be built again: {_difference(shard)}"
        os.replace(writer.temporary, folder / shard["name"])
        sync_folder(folder)
    return f"built again, {entry['samples']} clips"


def _difference(shard: dict) -> str:
    here = library_versions()
    other = [f"{name} {old} → {here.get(name)}" for name, old in shard["versions"].items() if here.get(name) != old]
    if other:
        return f"it was made with other versions ({', '.join(other)})"
    return "its videos have changed since; shardify build --rebuild-changed packs them anew"
