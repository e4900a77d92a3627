"""Decoding of a video: exactly the frames that were asked for, as small RGB pictures."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass

import numpy as np

from shardify.errors import VideoError
from shardify.video import nvdec
from shardify.video.container import VideoFile, VideoInfo, open_video
from shardify.video.extract import Request, Taken, take_by_counting, take_by_time
from shardify.video.resize import Box, Cut, PictureMaker


@dataclass(frozen=True)
class DecodedClip:
    """T frames of one clip: their pictures, display-order numbers and times as decoded."""

    cut: Cut
    frame_index: tuple[int, ...]
    pts_seconds: tuple[float, ...]

    @property
    def frames(self) -> np.ndarray:
        """uint8 (T, S, S, 3) RGB"""
        return self.cut.frames


@dataclass(frozen=True)
class DecodedVideo:
    """`decode_errors` counts the damaged packets and frames that libav reported."""

    info: VideoInfo
    clips: tuple[DecodedClip, ...]
    decode_errors: int
    decoder: str  # "cpu", or "cuda" where a GPU decoded it


def decode_video(
    path: str | os.PathLike,
    *,
    size: int = 128,
    fit: str = "stretch",
    box: Box | None = None,
    strict: bool = False,
    decoder: str = "cpu",
    **sampling: int | None,
) -> DecodedVideo:
    """`decode_clips` of a video file, with the same errors.

    size, fit, box: as of `PictureMaker`. sampling: `frames`, `clips` and `stride`, as of `Request`.
    """
    request = Request(make_picture=PictureMaker(size, fit, box), **sampling)
    with open_video(path) as video:
        return decode_clips(video, request, strict=strict, decoder=decoder)


def decode_clips(video: VideoFile, request: Request, *, strict: bool = False, decoder: str = "cpu") -> DecodedVideo:
    """Decode the requested clips of an open video.

    With `strict`, a video with any decode error is refused. With `decoder` "cuda" the GPU decodes what it can, the CPU
    the rest. Raises VideoError with a one-line reason for every input that gives no clip.
    """
    taken, used = _take(video, request, decoder)
    if strict and taken.errors:
        raise VideoError(f"damaged: {taken.errors} decode errors (refused by --strict)")
    maker = request.make_picture
    if again := maker.second_pass(_by_clip(taken)):
        maker, taken = again, _take(video, dataclasses.replace(request, make_picture=again), decoder)[0]
    decoded = tuple(
        DecodedClip(
            maker.finish(clip, pictures),
            numbers,
            tuple(float(taken.times[number] * taken.time_base) for number in numbers),
        )
        for clip, (numbers, pictures) in enumerate(zip(taken.plan, _by_clip(taken), strict=True))
    )
    return DecodedVideo(taken.info, decoded, taken.errors, used)


def _take(video: VideoFile, request: Request, decoder: str) -> tuple[Taken, str]:
    """The wanted frames, and what decoded them."""
    taken = nvdec.take_by_time(video, request) if decoder == "cuda" else None
    used = "cuda" if taken else "cpu"
    return taken or take_by_time(video, request) or take_by_counting(video, request), used


def _by_clip(taken: Taken) -> list[list]:
    return [[taken.pictures[number] for number in numbers] for numbers in taken.plan]
