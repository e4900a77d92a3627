"""A description of a shards folder, made without opening a shard."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from shardify.format.fetch import tables_of
from shardify.format.index import highest_hertz, read_index, read_rows
from shardify.format.synthetic import KIND
from shardify.format.words import SPLITS
from shardify.storage.address import Address
from shardify.text import count_remarks, count_sound


def describe(folder: Path | Address) -> dict:
    """Counts, sizes and settings of a finished folder. Raises FormatError, StorageError."""
    with tables_of(folder) as tables:
        index, rows = read_index(tables), read_rows(tables)
    synthetic = sum(row["status"] == "ok" and row.get("kind") == KIND for row in rows)
    splits = {}
    for number, name in enumerate(SPLITS):
        part = index.meta["splits"][name]
        clips = index.samples[index.samples["split"] == number]
        splits[name] = {
            "clips": part["samples"],
            "classes": index.heads[0].count(clips),
            "heads": {head.name: head.count(clips) for head in index.heads},
            "failed": part["failed"],
            "shards": len(part["shards"]),
            "bytes": sum(shard["bytes"] for shard in part["shards"]),
        }
    return {
        "folder": str(folder),
        "version": index.meta["version"],
        "clips": len(index.samples),
        "groups": len(np.unique(index.samples["group"])),
        "bytes": sum(split["bytes"] for split in splits.values()),
        "classes": index.classes,
        "heads": {head.name: head.classes for head in index.heads},
        "splits": splits,
        "failed": index.meta["failed"],
        "failures": dict(Counter(row["error"] for row in rows if row["status"] == "failed")),
        "remarks": dict(count_remarks(rows)),
        "synthetic": synthetic,
        "sound": dict(count_sound(rows, highest_hertz(index.meta))),
        "members": {name: member.to_dict() for name, member in index.members.items()},
        "notes": [line for member in index.members.values() for line in member.notes()] + _synthetic_note(synthetic),
        "settings": index.settings,
    }


def _synthetic_note(count: int) -> list[str]:
    return [f"{count} clips are synthetic (column kind of samples.csv)"] if count else []
