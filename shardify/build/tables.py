"""The tables and the card of a finished build: the earlier shards' rows and the new ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from shardify.build import commit
from shardify.build.plan import BuildPlan
from shardify.build.previous import Previous
from shardify.format import card
from shardify.format.index import FORMAT, SAMPLE_DTYPE, VERSION, csv_bytes, json_bytes, npy_bytes, sha256
from shardify.format.schema import SPLITS
from shardify.format.settings import BuildSettings


def write_tables(
    out: Path, settings: BuildSettings, plan: BuildPlan, entries: list[dict], previous: Previous | None
) -> tuple[dict, list[dict]]:
    """index.json, samples.npy, samples.csv and the card, of the earlier shards and the new ones."""
    old_rows, old_shards = _kept(previous)
    old_places = {record["key"].decode(): record for record in previous.samples} if previous else {}
    new_rows = {split: [] for split in SPLITS}
    shards = {split: list(old_shards[split]) for split in SPLITS}
    for entry in entries:
        split = entry["name"].split("-")[0]
        new_rows[split] += entry["rows"]
        if entry["samples"]:
            shards[split].append({key: entry[key] for key in ("name", "samples", "bytes", "sha256", "versions")})
    rows = []
    for split in SPLITS:
        rows += [row for row in old_rows if row["split"] == split and row["class"] in plan.classes] + new_rows[split]
    placed = {id(row) for row in rows}
    rows += [row for row in old_rows if id(row) not in placed] + plan.rejected
    samples = sample_records(rows, old_places, plan.classes)
    csv_table, npy_table = csv_bytes(rows), npy_bytes(samples)
    meta = {
        "format": FORMAT,
        "version": VERSION,
        "settings": settings.to_dict(),
        "classes": plan.classes,
        "splits": {
            split: {
                "samples": sum(shard["samples"] for shard in shards[split]),
                "failed": sum(row["status"] == "failed" and row["split"] == split for row in rows),
                "shards": shards[split],
            }
            for split in SPLITS
        },
        "failed": sum(row["status"] == "failed" for row in rows),
        "sha256": {"samples.npy": sha256(npy_table), "samples.csv": sha256(csv_table)},
    }
    if joined := joined_groups(previous, plan.renamed):
        meta["joined_groups"] = joined
    meta["index_sha256"] = sha256(json_bytes(meta))  # of everything above
    commit.commit(
        out,
        {
            "samples.npy": npy_table,
            "samples.csv": csv_table,
            "README.md": card.card_bytes(meta, samples),
            "index.json": json_bytes(meta),
        },
    )
    return meta, rows


def joined_groups(previous: Previous | None, renamed: dict[str, str]) -> dict[str, str]:
    """Group in the records of earlier shards → the one in the tables, where a later video has joined it to another."""
    before = previous.meta.get("joined_groups", {}) if previous else {}
    return {name: renamed.get(group, group) for name, group in before.items()} | renamed


def _kept(previous: Previous | None) -> tuple[list[dict], dict[str, list[dict]]]:
    """Rows and shards, by split, of the earlier build that stay as they are."""
    if previous is None:
        return [], {split: [] for split in SPLITS}
    rows = [row for row in previous.rows if row["source"] not in previous.dropped]
    shards = {
        split: [shard for shard in previous.meta["splits"][split]["shards"] if shard["name"] not in previous.rewritten]
        for split in SPLITS
    }
    return [row for row in rows if row["shard"] not in previous.rewritten], shards


def sample_records(rows: list[dict], places: Mapping[str, Mapping], classes: list[str]) -> np.ndarray:
    """SAMPLE_DTYPE of the rows of clips; `places`: key → offset, length, crc of those whose row does not say."""
    ok = [row for row in rows if row["status"] == "ok"]
    samples = np.zeros(len(ok), SAMPLE_DTYPE)
    groups: dict[str, int] = {}
    for record, row in zip(samples, ok, strict=True):
        place = row if "offset" in row else places[row["key"]]
        record["key"] = row["key"].encode()
        record["split"] = SPLITS.index(row["split"])
        record["shard"] = int(row["shard"].removesuffix(".tar").split("-")[1])
        for name in ("offset", "length", "crc"):
            record[name] = place[name]
        record["label"] = classes.index(row["class"])
        record["target"] = float(row["target"])
        record["group"] = groups.setdefault(row["group"], len(groups))
    return samples
