"""The tables of a shards folder: index.json, samples.npy and samples.csv; version 2 is written, 1 and 2 are read."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shardify.errors import FormatError
from shardify.format.members import Member, members_from, members_of
from shardify.format.records import DTYPE_1, PRIMARY, Head, name_fields, sample_dtype, unsafe_keys, wrong_labels
from shardify.format.schema import REQUIRED, SHARD, check_meta, check_row
from shardify.format.settings import BuildSettings
from shardify.format.words import SPLITS
from shardify.storage.address import Address, place_of
from shardify.storage.local import list_names
from shardify.storage.table import TABLE_ERRORS, from_cell, read_csv

FORMAT = "shardify"
VERSION = 2
READABLE = (1, VERSION)

# What a build leaves behind before there is an index: shards, their journal, temporary files, a plan, the tables.
BUILT = re.compile(r"\.?(train|val|test)-\d{6}(\.|$)|\.build\.json|\.plan\.jsonl|\.new-|\.?samples\.(npy|csv)")

# Version 1 of 0.1.0 ends here, and its cells stand as they are; 0.2 added the next three.
COLUMNS_0_1 = (
    "key", "source", "source_bytes", "source_fingerprint", "split", "label", "class", "target", "group",
    "status", "error", "shard", "payload_sha256", "record_sha256", "duration_seconds", "source_width",
    "source_height", "codec",
)  # fmt: skip
ADDED_COLUMNS = ("decode_errors", "repeated_frames", "hdr")
COLUMNS_1 = (*COLUMNS_0_1, *ADDED_COLUMNS)
COLUMNS = (*COLUMNS_1, "kind", "original")  # then AUDIO_COLUMNS where there is sound, and one label.NAME for each head
AUDIO_COLUMNS = (
    "audio", "audio_offset", "audio_fingerprint", "has_audio", "audio_source_rate", "audio_coverage", "audio_level_db",
    "audio_errors",
)  # fmt: skip

TABLES = ("samples.npy", "samples.csv", "README.md")


@dataclass(frozen=True)
class ShardIndex:
    """What a finished shards folder holds."""

    folder: Path
    meta: dict  # index.json
    samples: np.ndarray  # memory-mapped, with the fields of `records.sample_dtype`; version 1 lacks source and original

    @functools.cached_property
    def members(self) -> dict[str, Member]:
        """By name; without those of kinds that this release does not know."""
        return members_in(self.meta)

    @functools.cached_property
    def heads(self) -> list[Head]:
        return heads_in(self.meta)

    @property
    def classes(self) -> list[str]:
        """Of the primary head."""
        return self.meta["classes"]

    @property
    def settings(self) -> dict:
        return self.meta["settings"]

    def splits(self) -> list[str]:
        """The splits that hold samples, in the order train, val, test."""
        return [name for name in SPLITS if self.meta["splits"].get(name, {}).get("samples")]


def shard_name(split: str, number: int) -> str:
    return f"{split}-{number:06d}.tar"


def members_in(meta: Mapping) -> dict[str, Member]:
    """The members of a folder's clips by name, without those of kinds that this release does not know."""
    if meta["version"] == 1:
        return members_of(BuildSettings.from_dict(meta["settings"]))
    return members_from(meta["members"])


def heads_in(meta: Mapping) -> list[Head]:
    """The named labels of a folder's clips, the primary one first."""
    if meta["version"] == 1:
        return [Head(PRIMARY, meta["classes"])]
    return [Head(head["name"], head["classes"]) for head in meta["heads"]]


def highest_hertz(meta: Mapping) -> float:
    """Where the highest band of the clips' sound ends; 0 where none is kept."""
    return meta["members"]["mel"]["high"] if "mel" in meta.get("members", {}) else 0.0


def dtype_in(meta: Mapping) -> np.dtype:
    """The dtype of a folder's samples.npy."""
    if meta["version"] == 1:
        return DTYPE_1
    return sample_dtype(meta["members"], [head["name"] for head in meta["heads"]])


def csv_columns(meta: Mapping) -> tuple[str, ...]:
    """The columns of a folder's samples.csv; version 1 of 0.1.0 has COLUMNS_0_1 alone."""
    if meta["version"] == 1:
        return COLUMNS_1
    sound = AUDIO_COLUMNS if "mel" in meta["members"] else ()
    return (*COLUMNS, *sound, *(head.column for head in heads_in(meta)))


def row_of(record: Mapping) -> dict:
    """What samples.csv says of a clip, as far as its record, `<key>.json`, knows it."""
    labels = {f"label.{name}": label for name, label in record["labels"].items()}
    return {**{name: record[name] for name in (*COLUMNS, *AUDIO_COLUMNS) if name in record}, **labels}


def all_shards(meta: dict) -> list[dict]:
    """The shards that index.json names, in its order."""
    return [shard for split in meta["splits"].values() for shard in split["shards"]]


def read_index(folder: Path) -> ShardIndex:
    """Open a shards folder's index; samples.npy is memory-mapped, no shard is touched.

    Raises FormatError when the folder is unfinished, damaged, or of another version.
    """
    meta = read_meta(folder)
    path = folder / "samples.npy"
    try:
        _check_is_file(path)
        samples = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header makes NumPy raise from ValueError to tokenize.TokenError
        raise FormatError(f"{path}: cannot be read ({_on_one_line(error)}); build the folder again") from error
    if samples.dtype != dtype_in(meta) or samples.ndim != 1:
        raise FormatError(f"{path}: holds {samples.dtype}, not what index.json says; build or copy the folder again")
    expected = sum(split["samples"] for split in meta["splits"].values())
    if len(samples) != expected:
        raise FormatError(f"{path}: holds {len(samples)} records, index.json says {expected}; copy the folder again")
    index = ShardIndex(folder, meta, name_fields(samples) if meta["version"] == 1 else samples)
    _check_samples(index)
    return index


def _check_samples(index: ShardIndex) -> None:
    """Raises FormatError for a record with an odd key, or of none of the index's shards and classes."""
    samples, path = index.samples, index.folder / "samples.npy"
    for wrong in unsafe_keys(samples["key"]):
        key = bytes(samples["key"][wrong])
        raise FormatError(f"{path}: clip {wrong} has the key {key!r}; build or copy the folder again")
    shards = [SHARD.fullmatch(shard["name"]) for shard in all_shards(index.meta)]
    listed = [SPLITS.index(match[1]) << 32 | int(match[2]) for match in shards]
    ids = samples["split"].astype(np.int64) << 32 | samples["shard"]
    for found in np.setdiff1d(ids, listed):
        key = samples["key"][ids == found][0].decode()
        raise FormatError(f"{path}: clip {key} is in no shard of index.json; copy both again")
    for wrong, head in wrong_labels(samples, index.heads):
        name = shard_name(SPLITS[samples["split"][wrong]], samples["shard"][wrong])
        label = f"{samples[head.field][wrong]} ({head.name})"
        raise FormatError(
            f"{index.folder / name}: clip {samples['key'][wrong].decode()} has the label {label}, which is none of "
            f"the {len(head.classes)} classes of index.json; build or copy the folder again"
        )


def _check_is_file(path: Path) -> None:
    """Raises OSError: to read a pipe or a device would never end."""
    if path.exists() and not path.is_file():
        raise OSError("is no regular file")


def _on_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def read_meta(folder: Path) -> dict:
    """index.json alone. Raises FormatError."""
    path = folder / "index.json"
    try:
        _check_is_file(path)
        meta = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(meta, ensure_ascii=False, allow_nan=False).encode()  # no NaN, no half characters
    except FileNotFoundError as error:
        raise FormatError(f"{place_of(folder)}: {_why_no_index(folder)}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(f"{path}: cannot be read ({error}); build or copy the folder again") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise FormatError(f"{path}: is not an index of shardify; point to a folder made by `shardify build`")
    if meta.get("version") is True or meta.get("version") not in READABLE:
        raise FormatError(f"{path}: has format version {meta.get('version')}; this release reads 1 and {VERSION}")
    try:
        check_meta(meta)
    except ValueError as error:
        raise FormatError(f"{path}: is damaged ({error}); build or copy the folder again") from error
    return meta


def _why_no_index(folder: Path) -> str:
    """What a folder without index.json may be, by the names in it."""
    if isinstance(place_of(folder), Address):
        return "lies in object storage, which this command does not read; copy it to this machine"
    if not folder.is_dir():
        return "is not a folder"
    names = list_names(folder)
    if not names:
        return "is empty: it is not the folder that you mean, or the build is unfinished; run it again"
    if any(BUILT.match(name) for name in names):
        return "has no index.json: the build is unfinished; run it again"
    if "config.yaml" in names and {"checkpoints", "models", "results"}.intersection(names):
        return "is the folder of a run, not of shards; pass the folder made by `shardify build`"
    return "is no shards folder; make one with `shardify build FOLDER shards/`, and pass that"


def is_as_written(folder: Path) -> bool:
    """Whether index.json is byte for byte what the builder wrote. Raises FormatError where it is none at all."""
    meta = read_meta(folder)
    rest = {name: value for name, value in meta.items() if name != "index_sha256"}
    try:
        is_own = meta.get("index_sha256") == sha256(json_bytes(rest))
        return is_own and (folder / "index.json").read_bytes() == json_bytes(meta)
    except RecursionError:  # where it could just be read
        return False


def read_rows(folder: Path) -> list[dict[str, str]]:
    """samples.csv as text, one dict per row. Raises FormatError."""
    path = folder / "samples.csv"
    try:
        _check_is_file(path)
        with path.open(encoding="utf-8", newline="") as file:
            rows, columns = read_csv(file)
    except TABLE_ERRORS as error:
        raise FormatError(f"{path}: cannot be read ({error}); build or copy the folder again") from error
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise FormatError(f"{path}: has no column {missing[0]}; build or copy the folder again")
    if set(ADDED_COLUMNS) <= set(columns):  # else it is of 0.1.0, whose cells stand as they are
        rows = [
            {name: from_cell(value) if isinstance(value, str) else value for name, value in row.items()} for row in rows
        ]
    for number, row in enumerate(rows, 2):
        try:
            check_row(row)
        except ValueError as error:
            raise FormatError(f"{path} row {number}: {error}; build or copy the folder again") from error
    return rows


def json_bytes(value: object) -> bytes:
    """Readable, stable JSON: insertion order, UTF-8, one trailing newline."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def sha256(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()


def shard_names(meta: dict) -> set[str]:
    return {shard["name"] for shard in all_shards(meta)}
