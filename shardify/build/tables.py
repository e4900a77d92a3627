"""The tables and the card of a finished build: the earlier shards' rows and the new ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from shardify.build import commit
from shardify.build.plan import BuildPlan
from shardify.build.previous import Previous
from shardify.build.request import BuildRequest
from shardify.format import card
from shardify.format.index import FORMAT, VERSION, csv_columns, heads_in, json_bytes, sha256
from shardify.format.members import members_of
from shardify.format.records import Head, member_fields, npy_bytes, sample_dtype
from shardify.format.synthetic import KIND
from shardify.format.words import SPLITS
from shardify.storage.table import table_bytes


def write_tables(
    request: BuildRequest, plan: BuildPlan, entries: list[dict], previous: Previous | None
) -> tuple[dict, list[dict]]:
    """index.json, samples.npy, samples.csv and the card, of the earlier shards and the new ones."""
    settings = request.settings
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
    meta = {
        "format": FORMAT,
        "version": VERSION,
        "settings": settings.to_dict(),
        **plan.origin,
        "members": {name: member.to_dict() for name, member in members_of(settings).items()},
        "heads": [{"name": head.name, "classes": head.classes} for head in plan.heads],
        "classes": plan.classes,
        "generated": any(row["kind"] == KIND and row["status"] == "ok" for row in rows),
        "splits": {
            split: {
                "samples": sum(shard["samples"] for shard in shards[split]),
                "failed": sum(row["status"] == "failed" and row["split"] == split for row in rows),
                "shards": shards[split],
            }
            for split in SPLITS
        },
        "failed": sum(row["status"] == "failed" for row in rows),
    }
    samples = sample_records(rows, old_places, list(meta["members"]), heads_in(meta))
    csv_table, npy_table = table_bytes(csv_columns(meta), rows), npy_bytes(samples)
    meta["sha256"] = {"samples.npy": sha256(npy_table), "samples.csv": sha256(csv_table)}
    if joined := joined_groups(previous, plan.renamed):
        meta["joined_groups"] = joined
    meta["index_sha256"] = sha256(json_bytes(meta))  # of everything above
    commit.commit(
        request.out,
        {
            "samples.npy": npy_table,
            "samples.csv": csv_table,
            "README.md": card.card_bytes(meta, samples),
            "index.json": json_bytes(meta),
        },
        request.target.sync,
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


def sample_records(
    rows: list[dict], places: Mapping[str, Mapping], members: list[str], heads: list[Head]
) -> np.ndarray:
    """The records of the rows that are clips, in `sample_dtype(members, heads)`.

    rows: all of samples.csv, since inputs are numbered as they come there. places: by key, the
    `member_fields` of those clips whose row does not have them.
    """
    clips = [row for row in rows if row["status"] == "ok"]
    samples = np.zeros(len(clips), sample_dtype(members, [head.name for head in heads]))
    placed = [field for name in members for field in member_fields(name)]
    groups: dict[str, int] = {}
    sources: dict[str, int] = {}
    for row in rows:
        sources.setdefault(row["source"], len(sources))
    for record, row in zip(samples, clips, strict=True):
        place = row if placed[0] in row else places[row["key"]]
        record["key"] = row["key"].encode()
        record["split"] = SPLITS.index(row["split"])
        record["shard"] = int(row["shard"].removesuffix(".tar").split("-")[1])
        record["group"] = groups.setdefault(row["group"], len(groups))
        record["target"] = float(row["target"])
        record["source"] = sources[row["source"]]
        record["original"] = sources.get(row["original"], -1)
        for name in placed:
            record[name] = place[name]
        for head in heads[1:]:
            record[head.field] = int(row[head.column])
        record[heads[0].field] = heads[0].classes.index(row["class"])
    return samples
