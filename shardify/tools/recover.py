"""Proposals for the tables of a finished folder, from its shards and from what of damaged tables can still be read.

Everything here is a proposal: `repair` writes what has the hash that index.json names, and nothing else.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

from shardify.build.tables import sample_records
from shardify.format.index import all_shards, csv_columns, heads_in, members_in, row_of, sha256
from shardify.format.records import npy_bytes
from shardify.format.tar import read_shard
from shardify.storage.table import TABLE_ERRORS, from_cell, read_csv, table_bytes


def propose_csv(folder: Path, meta: dict, npy_keys: list[str]) -> Iterator[bytes]:
    """samples.csv, as far as it can be known; `npy_keys`: the clips in samples.npy, if that is sound.

    A clip's row is made from its record; only samples.csv itself knows the failed inputs.
    """
    known = {row["key"]: row for shard in all_shards(meta) for row in _rows_of_records(folder, meta, shard)}
    columns = csv_columns(meta)
    rows = _legible_rows(folder / "samples.csv", columns)
    clips = [row for row in rows if row["status"] != "failed"]
    for order in (npy_keys, [row["key"] for row in clips], list(known)):
        again = [known.get(key, old) for key, old in zip(order, clips + [{}] * len(order), strict=False)]
        waiting = iter(again)
        merged = [row if row["status"] == "failed" else next(waiting, row) for row in rows]
        yield table_bytes(columns, [*merged, *waiting])


def _legible_rows(path: Path, columns: tuple[str, ...]) -> list[dict]:
    """The rows as they stand, under the columns that they should have."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    try:
        rows, _ = read_csv(io.StringIO(text, newline=""), columns)
    except TABLE_ERRORS:
        return []
    return [{name: from_cell(value or "") for name, value in row.items() if name} for row in rows][1:]


def _rows_of_records(folder: Path, meta: dict, shard: dict) -> Iterator[dict]:
    for name, _, content in read_shard(folder / shard["name"]):
        if name.endswith(".json"):
            try:
                record = json.loads(content)
                yield {
                    **row_of(record),
                    "group": meta.get("joined_groups", {}).get(record["group"], record["group"]),
                    "key": record["key"],
                    "status": "ok",
                    "shard": shard["name"],
                    "record_sha256": sha256(content),
                }
            except (ValueError, KeyError, TypeError, RecursionError):
                continue


def propose_npy(folder: Path, meta: dict, rows: list[dict[str, str]]) -> Iterator[bytes]:
    """samples.npy from the rows of a sound samples.csv and the payloads in the shards, all of which must be there."""
    names = {member.extension: name for name, member in members_in(meta).items()}
    places: dict[str, dict] = {}
    for shard in all_shards(meta):
        files = {name: content for name, _, content in read_shard(folder / shard["name"])}
        at = 0
        for row in rows:
            if row["status"] != "ok" or row["shard"] != shard["name"]:
                continue
            place = places[row["key"]] = {"mel_present": row.get("has_audio") == "True"}
            for extension in sorted(("cls", *names, "json")):  # one header block, then whole blocks
                content = files.get(f"{row['key']}.{extension}", b"")
                if name := names.get(extension):
                    found = (at + 512, len(content), zlib.crc32(content))
                    place |= zip((f"{name}_offset", f"{name}_length", f"{name}_crc"), found, strict=True)
                at += 512 + -(-len(content) // 512) * 512
    yield npy_bytes(sample_records(rows, places, list(names.values()), heads_in(meta)))
