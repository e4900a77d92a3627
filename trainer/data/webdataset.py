"""The reader of WebDataset tars without an index of ours: their headers are scanned once for the same table.

A sample is `<key>.jpg` or `<key>.png` (a contact sheet, or one picture) or `<key>.npy` (uint8 (T, S, S, 3)) with
`<key>.cls`; `<key>.json` may name frames, size, split, class and group as ours does. Kaggle may have unpacked the tars.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from shardify.format.members.array import array_header
from shardify.format.members.frames import BLOCK, Frames, grid_shape, open_picture
from shardify.format.records import PRIMARY, Head, sample_dtype
from shardify.format.tar import Archive, TarMember, open_archive
from shardify.format.words import SPLITS
from trainer.data.locate import split_of
from trainer.errors import FormatError

PAYLOADS = {"jpg": "jpeg", "jpeg": "jpeg", "png": "png", "npy": "raw"}  # extension → codec
MAX_LABEL, MAX_JSON_BYTES, MAX_HEAD_BYTES, MAX_PAYLOAD_BYTES = 9_999, 1 << 20, 1 << 20, 1 << 30
MAX_LISTED = 4  # names in a message


@dataclass
class _Table:
    """Samples as they are found."""

    rows: list[tuple] = field(default_factory=list)  # as the fields of sample_dtype()
    groups: dict[str, int] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)  # label → class
    extensions: list[str] = field(default_factory=list)  # of the payloads, as they are written
    frames: set[int] = field(default_factory=set)
    size: object = None  # of the first clip, as its `.json` says
    without_split: dict[str, None] = field(default_factory=dict)  # tars whose clips are trained on for want of a word


def scan_tars(tars: list[Path], frames: int | None) -> dict:
    """All fields of a ShardSet but its folder; opens every tar, or folder that was one, once.

    frames: T of a contact sheet where no `.json` says it. Raises FormatError with the tar and the key.
    """
    table, paths, first = _Table(), {}, None
    for shard, path in enumerate(tars):
        with open_archive(path) as archive:
            for key, members in _samples(archive):
                split, payload = _add(table, archive, key, members, shard)
                paths[split, shard] = path
                first = first or _head(archive, key, payload)
    if not table.rows:
        raise FormatError(f"{tars[0]}: holds no sample; pass a folder made by `shardify build`, or WebDataset tars")
    codecs = {PAYLOADS[extension.lower()] for extension in table.extensions}
    if len(codecs) > 1 or len(table.frames) > 1:
        found = sorted(codecs) if len(codecs) > 1 else [f"{frames} frames" for frames in sorted(table.frames)]
        raise FormatError(
            f"{tars[0].parent}: the tars hold clips of several kinds ({_some(found)}); train on one kind at a time"
        )
    member, (samples, order) = _frames(tars[0], first, codecs.pop(), table, frames), _to_array(table.rows)
    labels = range(max(max(table.names, default=0), int(samples[f"label_{PRIMARY}"].max()), 1) + 1)
    classes = [table.names.get(label, str(label)) for label in labels]
    fingerprint = hashlib.sha256(samples.tobytes() + json.dumps(classes).encode()).hexdigest()
    notes = ()
    if table.without_split:
        notes = (f"no word in {_some(table.without_split)} says train, val or test: these clips are trained on",)
    return {
        "members": {member.name: member}, "heads": [Head(PRIMARY, classes)],
        "samples": samples, "paths": paths, "unpacked": frozenset(path for path in tars if path.is_dir()),
        "fingerprint": fingerprint, "has_crc": False, "extensions": np.array(table.extensions, "S5")[order],
        "notes": notes,
    }  # fmt: skip


def _some(names: Collection[str]) -> str:
    """The first of them, and how many there are."""
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(islice(names, MAX_LISTED)) + more


def _samples(archive: Archive) -> Iterator[tuple[str, dict[str, TarMember]]]:
    """(key, {extension: TarMember}) of neighbours with the same key."""
    key, members = None, {}
    for member in archive.members:
        folder, _, base = member.name.rpartition("/")
        stem, _, extension = base.partition(".")
        name = f"{folder}/{stem}" if folder else stem
        if not stem:
            continue  # hidden files: macOS leaves them behind
        if name != key and members:
            yield key, members
            members = {}
        key = name
        if extension.lower() in members:
            raise FormatError(f"{archive.path}: clip {key} has two .{extension}; write the tar again")
        members[extension.lower()] = member
    if members:
        yield key, members


def _add(table: _Table, archive: Archive, key: str, members: dict[str, TarMember], shard: int) -> tuple[int, TarMember]:
    path = archive.path
    payloads = [name for name in PAYLOADS if name in members]
    if len(payloads) != 1 or "cls" not in members:
        raise FormatError(
            f"{path}: clip {key} has {_some(members)}; one .jpg, .png or .npy and one .cls are needed (a clip's name "
            f"ends at its first dot)"
        )
    payload, about = members[payloads[0]], _read_json(archive, key, members.get("json"))
    text = archive.read(members["cls"], 16).strip()
    if not text.isdigit() or int(text) > MAX_LABEL:
        raise FormatError(f"{path}: clip {key} has the label {text!r}; a number from 0 to {MAX_LABEL} is needed")
    if payload.length > MAX_PAYLOAD_BYTES:
        raise FormatError(f"{path}: clip {key} takes {payload.length} bytes; no clip is that large")
    label, split, group = int(text), about.get("split"), about.get("group")
    if split not in SPLITS:
        split = split_of(path)
    if split is None:
        table.without_split[path.name] = None
    if isinstance(name := about.get("class"), str) and table.names.setdefault(label, name) != name:
        raise FormatError(f"{path}: clip {key} calls class {label} {name}, others call it {table.names[label]}")
    if not table.rows:
        table.size = about.get("size")
    if type(about.get("frames")) is int:
        table.frames.add(about["frames"])
    table.extensions.append(payload.name[-len(payloads[0]) :])
    group = table.groups.setdefault(group if isinstance(group, (str, int)) else key, len(table.groups))
    split = SPLITS.index(split or "train")
    table.rows.append(
        (key.encode(), split, shard, group, label, len(table.rows), -1, payload.offset, payload.length, 0, label)
    )
    return split, payload


def _read_json(archive: Archive, key: str, member: TarMember | None) -> dict:
    if member is None:
        return {}
    try:
        about = json.loads(archive.read(member, MAX_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"{archive.path}: clip {key} has a .json that cannot be read ({error}); write the tar again"
        ) from error
    return about if isinstance(about, dict) else {}


def _head(archive: Archive, key: str, payload: TarMember) -> tuple[int, ...]:
    """(T, S, S, 3) of a .npy, (height, width, 3) of a picture."""
    head, codec = archive.read(payload, MAX_HEAD_BYTES), PAYLOADS[payload.name.rpartition(".")[2].lower()]
    try:
        if codec == "raw":
            shape, dtype, _ = array_header(head)
            if dtype != np.uint8:
                raise ValueError(f"holds {dtype}, not uint8")
            return shape
        with open_picture(head, codec) as picture:
            return picture.height, picture.width, 3
    except Exception as error:  # Pillow raises errors of many kinds
        raise FormatError(f"{archive.path}: clip {key} cannot be decoded ({error}); write the tar again") from error


def _frames(path: Path, head: tuple[int, ...], codec: str, table: _Table, frames: int | None) -> Frames:
    """The member whose first payload has this shape. frames: T of a contact sheet where no `.json` says it."""
    if codec != "raw":
        frames = next(iter(table.frames), frames)
        if frames is None:
            raise FormatError(
                f"{path}: no .json says how many frames a picture holds; pass --set data.sheet_frames=N (1: pictures)"
            )
    try:
        frames, cell = head[:2] if codec == "raw" else (frames, head[1] // grid_shape(frames)[1])
        is_padded = codec != "raw" and type(table.size) is int and cell - BLOCK < table.size < cell
        member = Frames(codec=codec, frames=frames, size=table.size if is_padded else cell, cell=cell)
        fits = member.stored_shape == head
    except (ValueError, ArithmeticError):
        fits = False
    if not fits:
        what = " × ".join(map(str, head if codec == "raw" else head[:2]))
        raise FormatError(f"{path}: its first clip is {what}, which is no clip or sheet of {frames} square frames")
    return member


def _to_array(rows: list[tuple]) -> tuple[np.ndarray, np.ndarray]:
    """As in samples.npy, in the order of the splits, and which row each is; keys may be longer than ours."""
    dtype, longest = sample_dtype(), max(len(row[0]) for row in rows)
    fields = [(name, dtype[name]) for name in dtype.names]
    fields[0] = ("key", f"S{max(80, longest)}")
    samples = np.array(rows, fields)
    order = np.argsort(samples["split"], kind="stable")
    return samples[order], order
