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
from shardify.video.sampling import clip_spans


@dataclass(frozen=True)
class DecodedClip:
    """T frames of one clip: their pictures, display-order numbers and times as decoded.

    span: beginning and length in seconds, on the clock of the times, of the part of the video that the clip stands for.
    """

    cut: Cut
    frame_index: tuple[int, ...]
    pts_seconds: tuple[float, ...]
    span: tuple[float, float]

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
    start_seconds: float  # when the first frame is shown


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
            span,
        )
        for clip, (numbers, pictures, span) in enumerate(
            zip(taken.plan, _by_clip(taken), _spans(taken, request), strict=True)
        )
    )
    return DecodedVideo(taken.info, decoded, taken.errors, used, float(taken.times[0] * taken.time_base))


def _take(video: VideoFile, request: Request, decoder: str) -> tuple[Taken, str]:
    """The wanted frames, and what decoded them."""
    taken = nvdec.take_by_time(video, request) if decoder == "cuda" else None
    used = "cuda" if taken else "cpu"
    return taken or take_by_time(video, request) or take_by_counting(video, request), used


def _spans(taken: Taken, request: Request) -> list[tuple[float, float]]:
    """The part of the video that each clip stands for, as of `clip_spans`, in seconds."""
    start, shown, last_duration = request.shown(taken.times, taken.last_duration, taken.time_base)
    plan = tuple(tuple(number - start for number in clip) for clip in taken.plan)
    spans = clip_spans(shown, last_duration, plan, request.stride)
    return [(float(begin * taken.time_base), float(length * taken.time_base)) for begin, length in spans]


def _by_clip(taken: Taken) -> list[list]:
    return [[taken.pictures[number] for number in numbers] for numbers in taken.plan]
