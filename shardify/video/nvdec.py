"""Decoding on an NVIDIA GPU (NVDEC) through libav; whatever it cannot do is left to the CPU.

The decoder in front of the GPU is libav's own, so packets are chosen, skipped and checked as on the CPU; only the
pictures are made elsewhere, and come back as NV12 or P010.
"""

from __future__ import annotations

import dataclasses
import functools

import av
from av.codec.hwaccel import HWAccel

from shardify.errors import UsageError, VideoError
from shardify.video import extract
from shardify.video.container import VideoFile

AV_VERSION = (18, 1)  # the first that keeps the colours' description of a picture that came from the GPU
OPTIONS = {"primary_ctx": "1"}  # one CUDA context for all videos of a process: making one takes a third of a second


def check_cuda() -> None:
    """Raises UsageError, with the reason, where no GPU decodes."""
    if tuple(map(int, av.__version__.split(".")[:2])) < AV_VERSION:
        raise UsageError(f"--decoder cuda needs PyAV {'.'.join(map(str, AV_VERSION))}, this is {av.__version__}")
    try:
        _device()
    except (av.error.FFmpegError, NotImplementedError, RuntimeError) as error:
        raise UsageError(f"--decoder cuda: no GPU that decodes video was found ({error}); use --decoder cpu") from error


def take_by_time(video: VideoFile, request: extract.Request) -> extract.Taken | None:
    """What `frames.take_by_time` gives, decoded by the GPU; None where that or the GPU cannot do it."""
    try:
        _device()
        return extract.take_by_time(dataclasses.replace(video, hwaccel=_accelerator()), request)
    except (VideoError, av.error.FFmpegError, NotImplementedError, RuntimeError):
        return None  # if it is the file's fault, the CPU will say it better
    finally:
        video.logs.clear()


@functools.cache
def _device() -> HWAccel:
    """Kept, for the CUDA context lives as long as somebody holds it."""
    return _accelerator().create(av.Codec("h264", "r"))


def _accelerator() -> HWAccel:
    return HWAccel("cuda", allow_software_fallback=False, options=OPTIONS)
