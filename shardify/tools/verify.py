"""The check of a shards folder, as built or as Kaggle unpacked it: every hash, count, member, JPEG and JSON."""

from __future__ import annotations

import contextlib
import itertools
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shardify.errors import FormatError, MissingObjectError, UsageError
from shardify.format.card import card_bytes
from shardify.format.fetch import tables_of
from shardify.format.index import (
    COLUMNS_0_1,
    ShardIndex,
    all_shards,
    csv_columns,
    is_as_written,
    read_index,
    read_rows,
    sha256,
    shard_name,
)
from shardify.format.records import Head
from shardify.format.schema import SHARD
from shardify.format.shard import journal_path
from shardify.format.tar import read_members, read_shard
from shardify.format.words import SPLITS
from shardify.storage.address import Address
from shardify.storage.base import SequentialReader
from shardify.storage.local import file_sha256
from shardify.storage.place import open_reader, storage_of


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong; `clip` is the key, or empty where it is about the whole file."""

    file: str
    clip: str
    problem: str

    def __str__(self) -> str:
        return f"{self.file}: clip {self.clip}: {self.problem}" if self.clip else f"{self.file}: {self.problem}"


@dataclass(frozen=True)
class Expected:
    """What the tables say of one clip."""

    row: dict[str, str]
    record: np.void


def verify_folder(folder: Path | Address, workers: int) -> list[Damage]:
    """All damage, in the order of the index; empty for a sound folder.

    Remote shards are read once, and nothing of them is kept; raises StorageError, and FormatError for their tables.
    """
    with tables_of(folder) as tables:
        return _verify(tables, folder, workers)


def _verify(folder: Path, there: Path | Address, workers: int) -> list[Damage]:
    """folder: that of the tables; there: that of the shards."""
    try:
        if not is_as_written(folder):
            return [Damage("index.json", "", "is not as it was written; nothing else can be checked against it")]
    except FormatError as error:
        return [Damage("index.json", "", str(error))]
    try:
        index = read_index(folder)
    except FormatError as error:
        return [Damage("samples.npy", "", str(error))]
    try:
        rows = read_rows(folder)
    except FormatError as error:
        return [Damage("samples.csv", "", str(error))]
    columns = (csv_columns(index.meta), *([COLUMNS_0_1] if index.meta["version"] == 1 else []))
    if rows and tuple(rows[0]) not in columns:
        return [Damage("samples.csv", "", "does not have the columns of this version")]
    if unknown := sorted(set(index.meta.get("members", {})) - set(index.members)):
        return [Damage("index.json", "", f"has the member {unknown[0]}, which a newer release has made; use that")]
    failed = sum(row["status"] == "failed" for row in rows)
    rows = [row for row in rows if row["status"] == "ok"]
    damage = [*_check_index(index, failed), *_check_tables(index, rows, there)]
    expected = defaultdict(list)
    for row, record in zip(rows, index.samples, strict=False):
        expected[_shard_of(record)].append(Expected(row, record))
    shards = {shard["name"]: shard for shard in all_shards(index.meta)}
    with ThreadPoolExecutor(workers) as pool:
        found = pool.map(lambda name: list(check_shard(index, there / name, shards[name], expected[name])), shards)
        damage += itertools.chain.from_iterable(found)
    return damage + list(_strangers(there, set(shards)))


def _shard_of(record: np.void) -> str:
    split = SPLITS[record["split"]] if record["split"] < len(SPLITS) else f"split {record['split']}"
    return shard_name(split, record["shard"])


def _check_index(index: ShardIndex, failed: int) -> Iterator[Damage]:
    meta = index.meta
    if failed != meta["failed"]:
        yield Damage("samples.csv", "", f"lists {failed} failed inputs, index.json {meta['failed']}")
    for split in SPLITS:
        part = meta["splits"][split]
        if part["samples"] != sum(shard["samples"] for shard in part["shards"]):
            yield Damage("index.json", "", f"the clips of {split}'s shards do not add up to {part['samples']}")


def _check_tables(index: ShardIndex, rows: list[dict], there: Path | Address) -> Iterator[Damage]:
    """samples.npy and samples.csv against their hashes, each other, and the counts of index.json."""
    meta, samples = index.meta, index.samples
    for name, expected in meta.get("sha256", {}).items():
        if file_sha256(index.folder / name) != expected:
            yield Damage(name, "", "its hash is not the one in index.json: changed, or of another build")
    if len(rows) != len(samples):
        yield Damage("samples.csv", "", f"lists {len(rows)} clips, samples.npy {len(samples)}")
    if _read_card(there / "README.md") != card_bytes(meta, samples):
        yield Damage("README.md", "", "is not the card of this folder; `shardify card` writes it again")
    keys = samples["key"].tolist()
    for key, count in Counter(keys).items():
        if count > 1:
            yield Damage("samples.npy", key.decode(errors="replace"), f"is listed {count} times")
    for row, key in zip(rows, keys, strict=False):
        if row["key"].encode() != key:
            yield Damage("samples.csv", row["key"], f"stands where samples.npy has {key.decode(errors='replace')}")
            break
    counts = Counter(map(_shard_of, samples))
    for shard in all_shards(meta):
        name = shard["name"]
        if counts.pop(name, 0) != shard["samples"]:
            yield Damage("samples.npy", "", f"does not list the {shard['samples']} clips that {name} should hold")
    for name in counts:
        yield Damage("samples.npy", "", f"lists clips of {name}, which index.json does not name")


def _read_card(path: Path | Address) -> bytes | None:
    if isinstance(path, Path):
        return path.read_bytes() if path.is_file() else None
    with contextlib.suppress(MissingObjectError):
        return storage_of(path).read_bytes(path)


def _strangers(folder: Path | Address, known: set[str]) -> Iterator[Damage]:
    if isinstance(folder, Address):
        with contextlib.suppress(UsageError):  # a web server lists nothing
            for file in storage_of(folder).list_files(folder):
                if file.name.endswith(".tar") and file.name not in known:
                    yield Damage(file.name, "", "does not belong to this build; index.json does not name it")
        return
    for path in sorted(folder.iterdir()):
        is_tar = path.name.endswith(".tar")
        if is_tar and path.name not in known and journal_path(folder, path.name).is_file():
            yield Damage(path.name, "", "belongs to a build that was interrupted; run it again")
        elif is_tar and path.name not in known:
            yield Damage(path.name, "", "does not belong to this build; index.json does not name it")
        if path.is_dir() and SHARD.fullmatch(f"{path.name}.tar"):
            if f"{path.name}.tar" not in known:
                yield Damage(path.name, "", "does not belong to this build; index.json does not name it")
            elif (folder / f"{path.name}.tar").exists():
                yield Damage(path.name, "", "is there twice, as a tar and unpacked; remove one")


def check_shard(index: ShardIndex, path: Path | Address, shard: dict, expected: list[Expected]) -> Iterator[Damage]:
    """One tar against index.json and the tables, or the folder that Kaggle has made of it."""
    unpacked = path.with_suffix("")
    try:
        if isinstance(path, Address) or path.is_file():
            yield from _check_tar(index, path, shard, expected)
        elif unpacked.is_dir():
            yield from _check_members(index, unpacked.name, read_shard(path), expected, in_tar=False)
        else:
            yield Damage(shard["name"], "", "is missing")
    except MissingObjectError:
        yield Damage(shard["name"], "", "is missing")
    except OSError as error:
        yield Damage(shard["name"], "", f"cannot be read ({error.strerror or error})")


def _check_tar(index: ShardIndex, path: Path | Address, shard: dict, expected: list[Expected]) -> Iterator[Damage]:
    with open_reader(path) as file:
        reader = SequentialReader(file)
        is_whole = reader.size == shard["bytes"]
        if not is_whole:
            yield Damage(path.name, "", f"has {reader.size} bytes instead of {shard['bytes']}")
        inside = list(_check_members(index, path.name, read_members(path, reader), expected, in_tar=True))
        yield from inside
        if is_whole and not inside and reader.sha256() != shard["sha256"]:
            problem = "its hash differs, though all clips are sound: a tar header or padding is damaged"
            yield Damage(path.name, "", problem)


def _check_members(
    index: ShardIndex, file: str, members: Iterator[tuple[str, int, bytes]], expected: list[Expected], in_tar: bool
) -> Iterator[Damage]:
    payloads = {member.extension: name for name, member in index.members.items()}
    extensions = sorted(["cls", *payloads, "json"])
    due = {f"{clip.row['key']}.{extension}": clip for clip in expected for extension in extensions}
    order = list(due)
    seen: dict[str, str] = {}
    for place, (name, offset, content) in enumerate(members):
        key, _, extension = name.partition(".")
        if name in seen or name not in due:
            yield Damage(file, key, f"{name} {'is there twice' if name in seen else 'does not belong here'}")
            continue
        seen[name] = key
        if in_tar and place < len(order) and order[place] != name:
            yield Damage(file, key, f"{name} is out of order")
        member, clip = payloads.get(extension), due[name]
        problems = (
            _check_payload(index, clip, member, content) if member else _check_note(index, clip, extension, content)
        )
        for problem in problems:
            yield Damage(file, key, problem)
        if in_tar and member and not _is_at(clip.record, member, offset, len(content)):
            yield Damage(file, key, "payload does not lie where samples.npy says")
    lost = defaultdict(list)
    for name in order:
        if name not in seen:
            lost[due[name].row["key"]].append(name.partition(".")[2])
    for key, extensions in lost.items():
        yield Damage(file, key, f"{', '.join(extensions)} missing")


def _is_at(record: np.void, member: str, offset: int, length: int) -> bool:
    return (offset, length) == (record[f"{member}_offset"], record[f"{member}_length"])


def _check_note(index: ShardIndex, clip: Expected, extension: str, content: bytes) -> Iterator[str]:
    """The label or the record of a clip."""
    if extension == "cls":
        label = clip.record[index.heads[0].field]
        if content != str(label).encode():
            yield f"cls is not {label}"
    elif sha256(content) != clip.row["record_sha256"]:
        yield "json differs"
    elif not _agrees(content, clip, index.heads[1:]):
        yield "json does not agree with samples.csv"


def _check_payload(index: ShardIndex, clip: Expected, name: str, content: bytes) -> Iterator[str]:
    """samples.csv has the hash of the first member's payload; the others have a CRC alone."""
    if name == next(iter(index.members)) and sha256(content) != clip.row["payload_sha256"]:
        yield "payload differs"
    elif zlib.crc32(content) != clip.record[f"{name}_crc"]:
        yield f"{name} does not have the CRC of samples.npy"
    else:
        try:
            index.members[name].decode(content)
        except Exception as error:  # Pillow and NumPy raise a dozen unrelated types for damaged bytes
            yield f"payload cannot be decoded ({error})"


def _agrees(content: bytes, clip: Expected, heads: list[Head]) -> bool:
    """heads: all but the primary one, whose label in samples.npy is compared with the clip's cls."""
    names = ("key", "source", "split", "label", "payload_sha256")
    try:
        found = json.loads(content)
        if "mel_present" in clip.record.dtype.names:
            names = (*names, "has_audio")
            if found["has_audio"] != clip.record["mel_present"]:
                return False
        return all(str(found[name]) == clip.row[name] for name in names) and all(
            found["labels"][head.name] == int(clip.row[head.column]) == clip.record[head.field] for head in heads
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
