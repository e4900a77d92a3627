"""Shards folders of format version 1, as earlier releases wrote them, made from folders of today."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from shardify.format.card import card_bytes
from shardify.format.index import COLUMNS_0_1, COLUMNS_1, json_bytes, read_index, read_rows, sha256
from shardify.format.members import members_of
from shardify.format.records import DTYPE_1, name_fields, npy_bytes
from shardify.format.settings import BuildSettings
from shardify.format.shard import ShardWriter, journal_path
from shardify.format.tar import read_shard
from shardify.storage.table import table_bytes

ADDED_FIELDS = ("box", "original", "kind", "faces", "face_score", "labels", "classes")
ADDED_SINCE_0_1_0 = ("mirrored", "hdr", "repeated_frames")


def as_version_1(folder: Path, is_0_1_0: bool = False) -> Path:
    """Write a folder's shards and tables again as version 1 has them; as 0.1.0 did, with fewer fields and columns."""
    index, rows = read_index(folder), {row["key"]: row for row in read_rows(folder)}
    meta = {name: value for name, value in index.meta.items() if name not in ("members", "heads", "generated")}
    samples = np.zeros(len(index.samples), DTYPE_1)
    named = name_fields(samples)
    for name in named.dtype.names:
        named[name] = index.samples[name]
    for shard in [shard for split in meta["splits"].values() for shard in split["shards"]]:
        shard |= _pack_again(folder, shard, rows, named, ADDED_SINCE_0_1_0 if is_0_1_0 else ())
    table = _table_of_0_1_0(rows.values()) if is_0_1_0 else table_bytes(COLUMNS_1, rows.values())
    tables = {"samples.npy": npy_bytes(samples), "samples.csv": table}
    meta |= {"version": 1, "sha256": {name: sha256(content) for name, content in tables.items()}}
    del meta["index_sha256"]
    meta["index_sha256"] = sha256(json_bytes(meta))
    for name, content in {**tables, "index.json": json_bytes(meta), "README.md": card_bytes(meta, named)}.items():
        (folder / name).write_bytes(content)
    return folder


def _table_of_0_1_0(rows: Iterable[dict]) -> bytes:
    """Fewer columns, and every cell as it is."""
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, COLUMNS_0_1, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def _pack_again(folder: Path, shard: dict, rows: dict, samples: np.ndarray, dropped: tuple[str, ...]) -> dict:
    packed = defaultdict(dict)
    for name, _, content in read_shard(folder / shard["name"]):
        key, _, extension = name.partition(".")
        packed[key][extension] = content
    settings = json.loads((folder / "index.json").read_bytes())["settings"]
    with ShardWriter(folder, shard["name"], members_of(BuildSettings(**settings))) as writer:
        for key, files in packed.items():
            record = json.loads(files["json"])
            for name in (*ADDED_FIELDS, *dropped):
                del record[name]
            files["json"] = json_bytes(record)
            rows[key]["record_sha256"] = sha256(files["json"])
            writer.copy(rows[key], files)
        entry = writer.finish("", shard["versions"])
    journal_path(folder, shard["name"]).unlink()
    for row in entry["rows"]:
        samples["frames_offset"][samples["key"] == row["key"].encode()] = row["frames_offset"]
    return {name: entry[name] for name in ("bytes", "sha256")}
