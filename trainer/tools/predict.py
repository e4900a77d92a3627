"""Scores for raw videos.

The one part of the trainer that decodes: a video goes through the builder's own worker, the JPEG step included, so
the model sees the very uint8 that it would have seen from a shard.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from shardify import text
from shardify.errors import ShardifyError
from shardify.storage.local import file_sha256, rename
from shardify.storage.table import TableWriter
from trainer.devices.memory import in_parts
from trainer.errors import TrainerError

if TYPE_CHECKING:
    from shardify.build.job import Job
    from shardify.format.members import Member
    from shardify.format.settings import BuildSettings
    from shardify.video.resize import Box

COLUMNS = ("source", "score", "prediction", "error")


@contextmanager
def open_target(path: Path | None) -> Iterator[TextIO]:
    """The terminal, or a file that has its name once it is complete; until then, or after a failure, PATH.part."""
    if path is None:
        yield sys.stdout
        return
    part = path.with_name(f"{path.name}.part")
    with part.open("w", newline="", encoding="utf-8") as file:
        try:
            yield file
        except BaseException:
            click.echo(f"the rows written so far are in {part}", err=True)
            raise
    rename(part, path)


def write_rows(file: TextIO, rows: Iterator[dict]) -> tuple[int, int]:
    """Write the rows; returns how many there are, and how many are of videos that could not be read.

    Nothing in them is a formula for a spreadsheet, or on standard output a command for a terminal.
    """
    writer = TableWriter(file, COLUMNS)
    count = failed = 0
    for row in rows:
        if file is sys.stdout:
            row = {name: text.printable(str(value)) for name, value in row.items()}
        writer.write_row(row)
        file.flush()  # whoever waits for hours can read them, and a killed process loses none
        count, failed = count + 1, failed + ("error" in row)
    return count, failed


def predict_videos(
    videos: tuple[Path, ...], run: Path, model_class: str | None, boxes: Path | None, faces_model: Path | None,
    devices: str, workers: int | None, timeout: float,
) -> Iterator[dict]:  # fmt: skip
    """A row of COLUMNS for every video, in order. Raises ShardifyError, before the first row for all but damage."""
    from shardify.build.encode import pack_videos
    from shardify.faces.detector import open_detector
    from shardify.format.members import members_of
    from shardify.sources.boxes import read_boxes
    from shardify.sources.catalog import printable
    from trainer.devices.distributed import join_group, num_devices
    from trainer.saved_model import load_saved

    group = join_group(num_devices(devices) > 0)
    saved = load_saved(run, group.device, model_class)
    settings = build_settings(saved, run, boxes is not None, faces_model)
    if settings.faces:
        open_detector(faces_model)  # which is missed here, not in every worker
    member = next(iter(members_of(settings).values()))
    jobs = list(video_jobs(videos, read_boxes(boxes) if boxes else None))

    def rows() -> Iterator[dict]:  # of its own, so that all checks come before the first row is asked for
        usable = (job for job, reason in jobs if not reason)
        outcomes = pack_videos(usable, settings, workers=workers, timeout_seconds=timeout, faces_model=faces_model)
        for job, reason in jobs:
            outcome = reason or next(outcomes)
            if isinstance(outcome, str):
                yield {"source": printable(job.source), "error": outcome}
            else:
                yield {"source": job.source, **score_clips(saved, outcome, member, group.device)}

    return rows()


def build_settings(saved, run: Path, has_boxes: bool, faces_model: Path | None) -> BuildSettings:
    """The builder's settings by which the clips that the model was trained on were made.

    Raises TrainerError where that is not known, or is not what the user asks for: boxes where those clips were whole
    pictures, or the other way round, or faces found by another model.
    """
    from shardify.format.settings import BuildSettings

    if not saved.build:
        raise TrainerError(f"{run}: was trained on shards of another tool, so how their clips were made is unknown")
    try:
        settings = BuildSettings(**saved.build)
    except (TypeError, ShardifyError) as error:
        raise TrainerError(f"{run}: its clips were made in a way that is not known here ({error})") from error
    if settings.boxes and not has_boxes:
        raise TrainerError(f"{run}: was trained on clips cut to boxes; pass those of these videos with --boxes")
    if has_boxes and not settings.boxes:
        raise TrainerError(f"{run}: was trained on whole pictures, not on clips cut to boxes; leave --boxes out")
    if settings.faces_model != (file_sha256(faces_model) if faces_model else None):
        of_shards = f"the YuNet file with SHA-256 {settings.faces_model}" if settings.faces_model else "no YuNet file"
        what = "pass that one with --faces-model" if settings.faces_model else "leave --faces-model out"
        raise TrainerError(f"{run}: was trained on clips made with {of_shards}; {what}")
    return settings


def score_clips(saved, samples: list, member: Member, device) -> dict:
    """The score and the prediction of one video, from all its clips; member: the one that the model sees.

    Raises torch.OutOfMemoryError where memory does not hold a single clip.
    """
    import numpy as np
    import torch

    clips = torch.from_numpy(np.stack([member.decode(sample.members[member.extension]) for sample in samples]))
    outputs = outputs_of(saved, member.arrange(clips), device).float().cpu().numpy()
    return saved.task.verdict(outputs, saved.classes, saved.video_threshold)


def outputs_of(saved, clips, device):
    """The outputs (B, K), on the device, of uint8 clips (B, T, 3, S, S); in smaller parts where memory runs out."""
    import torch

    from trainer.engine.engine import autocast, choose_dtype
    from trainer.transforms.clips import normalise, to_float

    def run(parts: int):
        with torch.inference_mode(), autocast(device, choose_dtype(saved.settings.amp, device)):
            pieces = (to_float(part.to(device), saved.frames, saved.size) for part in clips.chunk(parts))
            return torch.cat([saved.model(normalise(piece)) for piece in pieces])

    return in_parts(run, 1, most=len(clips))


def video_jobs(videos: tuple[Path, ...], boxes: dict | None) -> Iterator[tuple[Job, str | None]]:
    """A job for every file named and for every video below every folder named, and why it has no score, if so.

    boxes: by a video's path below the folder named, or by the name of a file named; None without boxes.
    Raises TrainerError where there is none in a folder.
    """
    from shardify.build.job import Job
    from shardify.sources.boxes import NO_BOX, match_boxes
    from shardify.sources.catalog import Source, unusable_name
    from shardify.sources.entries import find_videos

    found: list[tuple[Path, str, Box | None]] = []
    box_of: dict[Path, dict] = {}  # boxes by the folder to which their paths are relative
    for path in videos:
        names, notes = find_videos(path) if path.is_dir() else ([path.name], [])
        if not names:
            raise TrainerError(f"no videos in {path}; pass video files, or a folder that holds some")
        folder = path if path.is_dir() else path.parent
        if boxes is not None and folder not in box_of:
            box_of[folder], lines = match_boxes(boxes, folder)
            notes += lines
        for line in notes:
            click.echo(f"{path}: {line}", err=True)
        found += [(folder / name, name, box_of.get(folder, {}).get(name)) for name in names]
    shared = Counter(name for _, name, _ in set(found))
    for file, name, box in found:
        reason = unusable_name(str(file))
        if boxes is not None and not reason:
            if box is None:
                reason = f"{NO_BOX} (path {name})"
            elif shared[name] > 1:
                reason = f"several videos here are {name}, as one row of the boxes file; pass a folder that holds them"
        key = Source(file, str(file), "", None).key
        yield Job(file, str(file), key, "", 0, "", 0.0, key, box), reason
