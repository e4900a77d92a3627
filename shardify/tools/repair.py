"""The repair of a shards folder: what is damaged is made again to the very bytes that index.json names, or left."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from shardify.build.build_shard import library_versions
from shardify.build.commit import lock_folder, roll_forward
from shardify.build.encode import Outcome, pack_videos
from shardify.build.job import Job
from shardify.build.previous import check_version
from shardify.errors import FormatError, UsageError
from shardify.format.card import card_bytes
from shardify.format.index import (
    all_shards,
    heads_in,
    is_as_written,
    json_bytes,
    read_index,
    read_meta,
    read_rows,
    sha256,
)
from shardify.format.members import Member, members_of
from shardify.format.settings import BuildSettings
from shardify.format.shard import Sample, ShardWriter
from shardify.format.tar import read_shard
from shardify.interrupt import Interrupts
from shardify.sources.boxes import match_boxes, read_boxes
from shardify.sources.source import SoundFile
from shardify.storage.local import file_sha256, rename, write_atomically
from shardify.tools.recover import propose_csv, propose_npy
from shardify.video.piece import split_piece

logger = logging.getLogger(__name__)


def repair_folder(
    data: Path,
    folder: Path,
    *,
    boxes: Path | None = None,
    faces_model: Path | None = None,
    timeout_seconds: float = 600.0,
) -> None:
    """Make again what is damaged: tables from the shards, shards from the videos in `data`; log what became of each.

    Nothing takes a name before it has the hash that index.json gives it. timeout_seconds: CPU time that one video may
    take. Raises FormatError when index.json, or the rows of failed inputs in samples.csv, are lost: nothing else knows
    them.
    """
    if not folder.is_dir():
        raise FormatError(f"{folder}: does not exist; pass the folder that `shardify build` made")
    with lock_folder(folder):
        roll_forward(folder)
        if not is_as_written(folder):
            raise FormatError(
                f"{folder / 'index.json'}: is damaged, and nothing else knows the settings; copy it from where it is "
                "sound, or build into a new folder: the same videos and options give the same bytes"
            )
        for left in [*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")]:
            left.unlink()
        meta = read_meta(folder)
        check_version(meta, folder)
        _check_known(folder, meta["settings"])
        settings = BuildSettings(**meta["settings"])
        for option, recorded, file in (
            ("--boxes", settings.boxes, boxes),
            ("--faces-model", settings.faces_model, faces_model),
        ):
            if recorded != (file_sha256(file) if file else None):
                raise UsageError(f"{folder}: was built with {'' if recorded else 'no '}{option}; pass the same")
        _repair_csv(folder, meta)
        all_rows = read_rows(folder)
        rows = [row for row in all_rows if row["status"] == "ok"]
        found, _ = match_boxes(read_boxes(boxes), data) if boxes else ({}, [])
        pack = functools.partial(pack_videos, timeout_seconds=timeout_seconds, faces_model=faces_model)
        _repair_shards(data, folder, meta, settings, rows, found, pack)
        _repair_file(folder / "samples.npy", meta["sha256"]["samples.npy"], lambda: propose_npy(folder, meta, all_rows))
        if not _is(folder / "samples.npy", meta["sha256"]["samples.npy"]):
            return
        card = card_bytes(meta, read_index(folder).samples)
        _repair_file(folder / "README.md", sha256(card), lambda: [card])


def _check_known(folder: Path, settings: dict) -> None:
    """Raises FormatError for a setting of a later release: without it the clips would not be the same."""
    known = {field.name for field in dataclasses.fields(BuildSettings)}
    for name in sorted(settings.keys() - known):
        raise FormatError(f"{folder}: was built by a newer release, which has the setting {name}; repair it with that")


def _repair_csv(folder: Path, meta: dict) -> None:
    path, expected = folder / "samples.csv", meta["sha256"]["samples.csv"]
    keys = []
    if _is(folder / "samples.npy", meta["sha256"]["samples.npy"]):
        keys = [key.decode() for key in np.load(folder / "samples.npy", allow_pickle=False)["key"].tolist()]
    _repair_file(path, expected, lambda: propose_csv(folder, meta, keys))
    if not _is(path, expected):
        raise FormatError(
            f"{path}: is damaged, and what it says of {meta['failed']} failed inputs and of clips in damaged shards "
            "stands nowhere else; copy it from where it is sound, or build into a new folder"
        )


def _repair_file(path: Path, expected: str, propose: Callable[[], Iterable[bytes]]) -> None:
    if _is(path, expected):
        return
    for content in propose():
        if sha256(content) == expected:
            write_atomically(path, content)
            logger.info(f"{path.name}: made again")
            return
    logger.info(f"{path.name}: cannot be made again from what is sound")


def _is(path: Path, expected: str) -> bool:
    return path.is_file() and file_sha256(path) == expected


def _repair_shards(
    data: Path, folder: Path, meta: dict, settings: BuildSettings, rows: list[dict], boxes: dict, pack: Callable
) -> None:
    unpacked = not any(folder.glob("*.tar")) and any(
        (folder / s["name"]).with_suffix("").is_dir() for s in all_shards(meta)
    )
    with Interrupts() as interrupts:
        for shard in all_shards(meta):
            mine = [row for row in rows if row["shard"] == shard["name"]]
            if _is_sound(folder, shard, mine, members_of(settings)):
                continue
            jobs = list(_jobs(data, meta, mine, settings, boxes))
            restore = functools.partial(_as_packed, mine, meta.get("joined_groups", {}))
            with contextlib.closing(pack(jobs, settings)) as results:
                outcomes = zip(jobs, results, strict=True)
                logger.info(f"{shard['name']}: {_rebuild(folder, shard, outcomes, settings, unpacked, restore)}")
            if interrupts.requested:
                raise KeyboardInterrupt


def _is_sound(folder: Path, shard: dict, rows: list[dict], members: dict[str, Member]) -> bool:
    """Whether the tar has its hash, or every member of the folder that it was unpacked into the right bytes."""
    if (folder / shard["name"]).is_file():
        return _is(folder / shard["name"], shard["sha256"])
    found = {name: content for name, _, content in read_shard(folder / shard["name"])}
    hashes = {name: sha256(content) for name, content in found.items()}
    payload, *others = members.values()
    for row in rows:
        key, note = row["key"], found.get(f"{row['key']}.json", b"")
        due = {
            "cls": sha256(row["label"].encode()),
            "json": row["record_sha256"],
            payload.extension: row["payload_sha256"],
        }
        if sha256(note) == row["record_sha256"]:
            due |= {member.extension: json.loads(note)[f"{member.name}_sha256"] for member in others}
        if any(hashes.get(f"{key}.{extension}") != expected for extension, expected in due.items()):
            return False
    return True


def _jobs(data: Path, meta: dict, rows: list[dict], settings: BuildSettings, boxes: dict) -> Iterator[Job]:
    """The videos of a shard, in their order."""
    seen, heads = set(), heads_in(meta)
    for row in rows:
        source = row["source"]
        if source in seen:
            continue
        seen.add(source)
        key = row["key"] if settings.clips == 1 else row["key"].rpartition("-")[0]
        video, piece = split_piece(source)
        labels = {head.name: int(row[head.column]) for head in heads}
        classes = {head.name: head.class_in(row) for head in heads}
        yield Job(
            data / video, source, key, row["split"], labels, classes, float(row["target"]),
            row["group"], boxes.get(video), row["kind"], row["original"], piece, _sound(data, row),
        )  # fmt: skip


def _sound(data: Path, row: dict) -> SoundFile | None:
    name = row.get("audio")
    return SoundFile(data / name, name, float(row["audio_offset"])) if name else None


def _as_packed(rows: list[dict], joined: dict[str, str], sample: Sample) -> Sample:
    """The sample with the record that was packed, of a group that later videos may have joined to another."""
    row = next(row for row in rows if row["key"] == sample.key)
    record = json.loads(sample.members["json"])
    for group in [row["group"], *(name for name, now in joined.items() if now == row["group"])]:
        content = json_bytes({**record, "group": group})
        if sha256(content) == row["record_sha256"]:
            return dataclasses.replace(sample, members={**sample.members, "json": content})
    return sample


def _rebuild(
    folder: Path, shard: dict, outcomes: Iterable[tuple[Job, Outcome]], settings: BuildSettings, unpacked: bool,
    restore: Callable[[Sample], Sample],
) -> str:  # fmt: skip
    """What became of one shard. The damaged one stays until its replacement is known to be right."""
    with ShardWriter(folder, shard["name"], members_of(settings)) as writer:
        for job, result in outcomes:
            if isinstance(result, str):
                return f"cannot be built again: {job.source}: {result}"
            for sample in map(restore, result):
                writer.add(sample)
        entry = writer.seal("", library_versions(settings))
        if entry["sha256"] != shard["sha256"]:
            return f"cannot be built again: {_difference(shard, settings)}"
        home = (folder / shard["name"]).with_suffix("")
        if (unpacked or home.is_dir()) and not (folder / shard["name"]).is_file():
            _unpack(writer.temporary, home)
        else:
            rename(writer.temporary, folder / shard["name"])
    return f"built again, {entry['samples']} clips"


def _unpack(tar: Path, home: Path) -> None:
    """Put right the members of an unpacked shard; files that do not belong there stay, for `verify` to name."""
    home.mkdir(exist_ok=True)
    for name, _, content in read_shard(tar):
        if not _is(home / name, sha256(content)):
            write_atomically(home / name, content)


def _difference(shard: dict, settings: BuildSettings) -> str:
    here = library_versions(settings)
    other = [f"{name} {old} → {here.get(name)}" for name, old in shard["versions"].items() if here.get(name) != old]
    if other:
        return f"it was made with other versions ({', '.join(other)})"
    return "its videos have changed since; shardify build --rebuild-changed packs them again"
