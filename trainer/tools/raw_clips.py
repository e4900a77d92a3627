"""Clips of raw videos, pictures and frames, made as those of the shards on which a model was trained.

The one part of the trainer that decodes: a video goes through the builder's own worker, the JPEG step included, so
the model sees the very uint8 that it would have seen from a shard.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np

from shardify.build.encode import pack_videos
from shardify.build.job import Job
from shardify.errors import ShardifyError
from shardify.faces.detector import open_detector
from shardify.format.members import members_of
from shardify.format.records import OPTIONAL, PRIMARY
from shardify.format.settings import BuildSettings
from shardify.format.shard import Sample
from shardify.sources.boxes import NO_BOX, match_boxes, read_boxes
from shardify.sources.entries import find_videos
from shardify.sources.source import Source, printable, unusable_name
from shardify.storage.local import file_sha256
from shardify.video.resize import Box, PictureMaker
from shardify.video.sampling import plan_constant_rate
from trainer.errors import TrainerError

logger = logging.getLogger(__name__)

Input = tuple[Job, str | None]  # a video or a picture, and why it has no score where that is known already
# the N clips of a video by member, as they are stored, the frames uint8 (N, T, S, S, 3) first; and NAME_present, bool
# (N,), of a member that clips may lack
Clips = dict[str, np.ndarray]


def settings_of(build: dict, run: Path, faces_model: Path | None = None) -> BuildSettings:
    """The builder's settings that made the clips of a run; faces_model: the YuNet file, where one found the faces.

    Raises TrainerError where they are not known or the file is another one, UsageError where no detector is installed.
    """
    if not build:
        raise TrainerError(f"{run}: was trained on shards of another tool, so how their clips were made is unknown")
    try:
        settings = BuildSettings(**build)
    except (TypeError, ShardifyError) as error:
        raise TrainerError(f"{run}: its clips were made in a way that is not known here ({error})") from error
    if settings.faces_model != (file_sha256(faces_model) if faces_model else None):
        of_shards = f"the YuNet file with SHA-256 {settings.faces_model}" if settings.faces_model else "no YuNet file"
        what = "pass that one with" if settings.faces_model else "leave out"
        option = "--faces-model (in Python, faces_model=)"
        raise TrainerError(f"{run}: was trained on clips made with {of_shards}; {what} {option}")
    if settings.faces:
        open_detector(faces_model)  # which is missed here, not in every worker
    return settings


def find_inputs(paths: Sequence[Path], boxes: Path | None) -> list[Input]:
    """Every file named, and every video below every folder named; where a folder holds no video, its pictures.

    boxes: a CSV file of boxes, by a video's path below the folder named, or by the name of a file named.
    Raises TrainerError where a folder holds nothing of the kind, UsageError for boxes that cannot be used.
    """
    box_rows = read_boxes(boxes) if boxes else None
    found: list[tuple[Path, str, Box | None]] = []
    box_of: dict[Path, dict] = {}  # boxes by the folder to which their paths are relative
    for path in paths:
        names, notes = find_videos(path) if path.is_dir() else ([path.name], [])
        if not names:
            raise TrainerError(f"no videos in {path}; pass video files, or a folder that holds some")
        folder = path if path.is_dir() else path.parent
        if box_rows is not None and folder not in box_of:
            box_of[folder], lines = match_boxes(box_rows, folder)
            notes += lines
        for line in notes:
            logger.info(f"{path}: {line}")
        found += [(folder / name, name, box_of.get(folder, {}).get(name)) for name in names]
    shared = Counter(name for _, name, _ in set(found))
    return [_input(file, name, box, boxes is not None, shared[name] > 1) for file, name, box in found]


def _input(file: Path, name: str, box: Box | None, needs_box: bool, is_shared: bool) -> Input:
    reason = unusable_name(str(file))
    if needs_box and not reason:
        if box is None:
            reason = f"{NO_BOX} (path {name})"
        elif is_shared:
            reason = f"several videos here are {name}, as one row of the boxes file; pass a folder that holds them"
    key = Source(file, str(file), "", None).key
    return Job(file, str(file), key, "", {PRIMARY: 0}, {PRIMARY: ""}, 0.0, key, box), reason


def clips_of_inputs(
    inputs: Sequence[Input], settings: BuildSettings, workers: int | None, timeout_seconds: float,
    faces_model: Path | None = None,
) -> Iterator[tuple[str, Clips | str]]:  # fmt: skip
    """Each input's name with its clips, or with the reason why there are none, in order.

    Decoded in processes of their own, as in a build; workers, timeout_seconds, faces_model: as of `pack_videos`.
    """
    usable = (job for job, reason in inputs if not reason)
    outcomes = pack_videos(usable, settings, workers=workers, timeout_seconds=timeout_seconds, faces_model=faces_model)
    for job, reason in inputs:
        outcome = reason or next(outcomes)
        if isinstance(outcome, str):
            yield printable(job.source), outcome
        else:
            yield job.source, _decoded(outcome, settings)


def _decoded(samples: list[Sample], settings: BuildSettings) -> Clips:
    clips = {}
    for name, member in members_of(settings).items():
        clips[name] = np.stack([member.decode(sample.members[member.extension]) for sample in samples])
        if name in OPTIONAL:
            clips[f"{name}_present"] = np.array([sample.row[f"{name}_present"] for sample in samples], bool)
    return clips


def frames_alone(frames: np.ndarray, settings: BuildSettings) -> Clips:
    """Clips of these frames, uint8 (N, T, S, S, 3), that lack all other members."""
    first, *others = members_of(settings).values()
    clips = {first.name: frames}
    for member in others:
        clips[member.name] = np.zeros((len(frames), *member.shape), member.dtype)
        clips[f"{member.name}_present"] = np.zeros(len(frames), bool)
    return clips


def clips_of_frames(frames: np.ndarray, settings: BuildSettings) -> np.ndarray:
    """The clips, uint8 (N, T, S, S, 3), of a video whose frames, uint8 (F, H, W, 3) RGB, have equal durations."""
    plan = plan_constant_rate(len(frames), frames=settings.frames, clips=settings.clips, stride=settings.stride)
    make, member = PictureMaker(settings.size, settings.fit), next(iter(members_of(settings).values()))
    pictures = {
        number: make(av.VideoFrame.from_ndarray(np.ascontiguousarray(frames[number]), "rgb24"), None)
        for number in set(itertools.chain(*plan))
    }
    clips = [np.stack([pictures[number] for number in numbers]) for numbers in plan]
    return np.stack([member.decode(member.encode(clip)) for clip in clips])
