"""Checks of index.json, samples.npy and samples.csv before they are believed: a folder may come from anybody."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from shardify.errors import UsageError
from shardify.format.members import members_from, members_of
from shardify.format.settings import BuildSettings
from shardify.format.words import SPLITS

KEY = re.compile(r"[A-Za-z0-9_-]{1,80}")
SHARD = re.compile(r"(train|val|test)-([0-9]{6})\.tar")
SHA256 = re.compile(r"[0-9a-f]{64}")
TABLES = {"samples.npy", "samples.csv"}  # whose hashes index.json holds
REQUIRED = (  # of a row: what is read again; the other columns are for people
    "key", "source", "source_bytes", "source_fingerprint", "split", "label", "class", "target", "group", "status",
    "error", "shard", "payload_sha256", "record_sha256",
)  # fmt: skip
MAX_COUNT = 2**63
MAX_CLASSES = 32_767  # int16 in samples.npy
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")  # of a member or a head: part of a field's name


def check_meta(meta: Mapping) -> None:
    """Raises ValueError with the first thing in index.json that no build writes: types, ranges, names."""
    classes, settings, splits = (meta.get(name) for name in ("classes", "settings", "splits"))
    for name, value, kind in (("classes", classes, list), ("settings", settings, dict), ("splits", splits, dict)):
        if not isinstance(value, kind):
            raise ValueError(f"has no {name}")
    _check_classes(classes, "classes")
    _check_settings(settings)
    if meta["version"] > 1:
        _check_members(meta)
        _check_heads(meta)
    _expect(set(splits) == set(SPLITS), "splits", list(splits), "train, val and test")
    for name, split in splits.items():
        where = f"splits.{name}"
        _expect(isinstance(split, dict), where, split, "an object")
        _expect_count(split, where, "samples", "failed")
        shards = split.get("shards")
        _expect(isinstance(shards, list), f"{where}.shards", shards, "a list")
        for number, shard in enumerate(shards):
            _check_shard(shard, name, f"{where}.shards[{number}]")
        names = [shard["name"] for shard in shards]
        _expect(len(set(names)) == len(names), f"{where}.shards", names, "shards, none of them twice")
    _expect_count(meta, "", "failed")
    hashes = meta.get("sha256")
    _expect(isinstance(hashes, dict) and set(hashes) == TABLES, "sha256", hashes, "the hashes of the two tables")
    _expect(all(map(_is_sha256, hashes.values())), "sha256", hashes, "hashes of 64 hexadecimal digits")
    _expect(isinstance(meta.get("layout", ""), str), "layout", meta.get("layout"), "a name")
    split_list = meta.get("split_list")
    is_right = isinstance(split_list, dict) and split_list.keys() == {"name", "sha256"}
    is_right = is_right and isinstance(split_list["name"], str) and _is_sha256(split_list["sha256"])
    _expect(split_list is None or is_right, "split_list", split_list, "a name and a hash, or null")
    joined = meta.get("joined_groups", {})
    is_right = isinstance(joined, dict) and _all_text([*joined, *joined.values()])
    _expect(is_right, "joined_groups", joined, "names by name")


def _check_settings(settings: dict) -> None:
    """Those that this release knows; the rest belongs to a later one."""
    for name in ("frames", "size", "codec"):
        _expect(name in settings, "settings", list(settings), f"settings with {name}")
    try:
        BuildSettings.from_dict(settings)
    except UsageError as error:
        raise ValueError(f"settings: {error}") from error


def _check_classes(classes: object, where: str) -> None:
    is_right = isinstance(classes, list) and _all_text(classes) and len(set(classes)) == len(classes) <= MAX_CLASSES
    _expect(is_right, where, classes, "names, none of them twice")


def _check_members(meta: Mapping) -> None:
    """What is decoded must be what the settings say was built."""
    entries = meta.get("members")
    _expect(isinstance(entries, dict) and len(entries) > 0, "members", entries, "entries by name")
    for name, about in entries.items():
        _expect(NAME.fullmatch(name) is not None, "members", name, "a name")
        _expect(isinstance(about, dict) and isinstance(about.get("kind"), str), f"members.{name}", about, "of a kind")
    members_from(entries)
    for name, member in members_of(BuildSettings.from_dict(meta["settings"])).items():
        _expect(entries.get(name) == member.to_dict(), f"members.{name}", entries.get(name), "what the settings say")


def _check_heads(meta: Mapping) -> None:
    heads = meta.get("heads")
    _expect(isinstance(heads, list) and len(heads) > 0, "heads", heads, "a list")
    for number, head in enumerate(heads):
        where = f"heads[{number}]"
        _expect(isinstance(head, dict), where, head, "an object")
        is_name = isinstance(head.get("name"), str) and NAME.fullmatch(head["name"]) is not None
        _expect(is_name, f"{where}.name", head.get("name"), "a name")
        _check_classes(head.get("classes"), f"{where}.classes")
    names = [head["name"] for head in heads]
    _expect(len(set(names)) == len(names), "heads", names, "heads, none of them twice")
    _expect(heads[0]["classes"] == meta["classes"], "heads[0].classes", heads[0]["classes"], "the classes")
    _expect(isinstance(meta.get("generated"), bool), "generated", meta.get("generated"), "true or false")


def _check_shard(shard: object, split: str, where: str) -> None:
    _expect(isinstance(shard, dict), where, shard, "an object")
    name, versions = shard.get("name"), shard.get("versions")
    match = SHARD.fullmatch(name) if isinstance(name, str) else None
    _expect(match is not None and match[1] == split, f"{where}.name", name, f"{split}-NNNNNN.tar")
    _expect_count(shard, where, "samples", "bytes")
    _expect(_is_sha256(shard.get("sha256")), f"{where}.sha256", shard.get("sha256"), "64 hexadecimal digits")
    is_right = isinstance(versions, dict) and _all_text([*versions, *versions.values()])
    _expect(is_right, f"{where}.versions", versions, "versions by name")


def _expect_count(holder: Mapping, where: str, *names: str) -> None:
    for name in names:
        value = holder.get(name)
        is_right = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_COUNT
        _expect(is_right, f"{where}.{name}".lstrip("."), value, "a count")


def _expect(is_right: bool, where: str, value: object, what: str) -> None:
    if not is_right:
        shown = repr(value)
        raise ValueError(f"{where} is {shown if len(shown) <= 80 else f'{shown[:80]}…'}, not {what}")


def _all_text(values: list) -> bool:
    return all(isinstance(value, str) for value in values)


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and SHA256.fullmatch(value) is not None


def check_row(row: Mapping) -> None:
    """Raises ValueError with the first thing in a row of samples.csv that no build writes."""
    if None in row or None in row.values():
        raise ValueError("has more or fewer fields than columns")
    _expect(KEY.fullmatch(row["key"]) is not None, "key", row["key"], "letters, digits, _ and -")
    is_ok = row["status"] == "ok"
    _expect(is_ok or row["status"] == "failed", "status", row["status"], "ok or failed")
    _expect(row["split"] in SPLITS or not (is_ok or row["split"]), "split", row["split"], "train, val or test")
    in_shard = SHARD.fullmatch(row["shard"])
    is_right = in_shard[1] == row["split"] if in_shard else not (is_ok or row["shard"])
    _expect(is_right, "shard", row["shard"], "a shard of the clip's split")
    leads_out = row["source"].startswith("/") or "/../" in f"/{row['source']}/"
    _expect(not (is_ok and leads_out), "source", row["source"], "a path below the data folder")
    sound = (("audio_source_rate", int), ("audio_level_db", float)) if row.get("has_audio") else ()
    for name, kind in (("label", int), ("target", float), *sound):
        try:
            is_right = math.isfinite(kind(row.get(name, "")))
        except (ValueError, OverflowError):
            is_right = False
        _expect(is_right, name, row.get(name), "a number")
