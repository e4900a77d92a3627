"""A video file, opened without trusting it: which stream is decoded, and what is known about it."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import av.logging
from av.codec.hwaccel import HWAccel

from shardify.errors import VideoError
from shardify.video.sniff import HEAD_BYTES, what_else

# Demuxers that read one file and open no other: no playlists, no concat scripts, no picture sequences.
FORMAT_WHITELIST = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,asf,rm,ogg,gif,apng,"
    "yuv4mpegpipe,mxf,dv,h264,hevc,h263,m4v,ivf,obu,vc1,vc1test,mjpeg,mjpeg_2000,nut,4xm,dfa,pmp"
)
MAX_PIXELS = 8192 * 8192  # above 8K UHD (7680×4320) with room for portrait and square pictures
TOO_LARGE = "its pictures are too large: {}×{} pixels"
MAX_STREAMS = 100  # libav's own bound is 1000
READ_BYTES = 1 << 18  # one read of the file; 32 KiB reads cost measurable time in Python calls
CODEC_OPTIONS = {"max_pixels": str(MAX_PIXELS)}
# Metadata need not be UTF-8; PyAV 19 and newer expect that, and have no such option.
LENIENT = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
FAR_FEWER = 4  # a stream with less than a quarter of another's frames is not the film
ENCRYPTED = "encrypted, and can only be played with its key"
HDR_TRANSFERS = {16: "pq", 18: "hlg"}  # AVCOL_TRC_SMPTE2084, AVCOL_TRC_ARIB_STD_B67


@dataclass(frozen=True)
class VideoInfo:
    """What a video is, as its decoded frames and packets say (never its header alone).

    `width` × `height` are the decoded picture's pixels after rotation and before the pixel aspect
    ratio; `display_width` × `display_height` are what a player shows (the ratio stretches the
    coded picture's width), the coordinates of boxes. `fps` is the average over the displayed frames.
    """

    width: int
    height: int
    display_width: int
    display_height: int
    num_frames: int
    fps: float
    duration_seconds: float
    codec: str
    pixel_format: str
    rotation_degrees: int  # clockwise, 0 | 90 | 180 | 270, as applied to the coded picture
    mirrored: bool  # left-right, after the rotation
    hdr: str  # "pq" | "hlg", pictures of which are decoded without tone mapping, or "none"


@dataclass(frozen=True)
class VideoFile:
    """An open file and what libav has logged about it so far, as (level, source, message)."""

    file: io.FileIO
    size_bytes: int
    logs: list[tuple[int, str, str]]
    hwaccel: HWAccel | None = None  # decode with this, and not at all where it cannot

    @contextlib.contextmanager
    def demuxer(self) -> Iterator[av.video.stream.VideoStream]:
        """The video stream of a fresh demuxer, with a fresh decoder of one thread; read it from the start.

        One thread: damaged files decode differently from run to run with more.
        """
        self.file.seek(0)
        try:
            container = open_container(self.file, self.hwaccel)
        except av.error.FFmpegError as error:
            self.file.seek(0)
            if what := what_else(self.file.read(HEAD_BYTES)):
                raise VideoError(what) from error
            if any("whitelist" in message for _, _, message in self.logs):
                raise VideoError("not a video, but a picture, playlist or other kind of file") from error
            raise
        with container:
            refuse_drm(container)
            stream = choose_stream(container, lambda: self._packet_counts)
            if self.hwaccel and not stream.codec_context.is_hwaccel:
                raise VideoError("no hardware decoder for its video codec")
            width, height = stream.codec_context.width, stream.codec_context.height
            if width * height > MAX_PIXELS:
                raise VideoError(TOO_LARGE.format(width, height))
            stream.codec_context.thread_count = 1
            stream.codec_context.options = dict(CODEC_OPTIONS)
            yield stream

    @functools.cached_property
    def _packet_counts(self) -> Counter[int]:
        """Packets of each video stream, by its number, as far as the file can be read."""
        counts, place = Counter(), self.file.seek(0, os.SEEK_CUR)  # of the demuxer that is waiting for the answer
        self.file.seek(0)
        with open_container(self.file) as container, contextlib.suppress(av.error.FFmpegError):
            packets = container.demux(*container.streams.video)
            counts.update(packet.stream_index for packet in packets if packet.size)
        self.file.seek(place)
        return counts


@contextlib.contextmanager
def open_video(path: str | os.PathLike) -> Iterator[VideoFile]:
    """Open a regular file, once, by ourselves: libav never sees a name.

    Raises VideoError with a one-line reason, for libav's failures inside the `with` block as well.
    """
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    with open_regular_file(path) as file, av.logging.Capture(local=True) as logs, readable_failures():
        size_bytes = os.fstat(file.fileno()).st_size
        if size_bytes == 0:
            raise VideoError("the file is empty")
        yield VideoFile(file, size_bytes, logs)


def open_regular_file(path: str | os.PathLike) -> io.FileIO:
    """A raw binary file object. O_NONBLOCK: opening a named pipe must not wait for a writer."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    flags |= getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(Path(path), flags)
    except (OSError, ValueError) as error:
        raise VideoError(f"cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        raise VideoError(f"not a regular file but {kind}")
    return os.fdopen(descriptor, "rb", buffering=0)


def open_container(
    file: io.FileIO, hwaccel: HWAccel | None = None, formats: str = FORMAT_WHITELIST
) -> av.container.InputContainer:
    """A demuxer over an open file, of one of these formats, that can reach no other file and no network."""
    return av.open(
        file,
        **LENIENT,
        buffer_size=READ_BYTES,
        options=dict(CODEC_OPTIONS),
        hwaccel=hwaccel,
        container_options={
            "format_whitelist": formats,
            "protocol_whitelist": "none",
            "max_streams": str(MAX_STREAMS),
        },
    )


def refuse_drm(container: av.container.InputContainer) -> None:
    """Raises VideoError where libav names a protection of the whole file (ASF): it decodes to noise, if at all."""
    is_protected = not container.metadata.keys().isdisjoint({"encryption", "ASF_Protection_Type"})
    if container.format.name == "asf" and is_protected:
        raise VideoError(ENCRYPTED)


def choose_stream(
    container: av.container.InputContainer, packet_counts: Callable[[], Counter[int]]
) -> av.video.stream.VideoStream:
    """The main video stream: of those that move the default one if marked, else the largest; never a cover picture.

    A stream with far fewer frames than another is no film but pictures beside it (motion photos). `packet_counts`
    is asked for the packets of each stream where there is a choice and the index does not say.
    """
    videos = list(container.streams.video)
    moving = [stream for stream in videos if not stream.disposition & av.stream.Disposition.attached_pic]
    known = [stream for stream in moving if stream.codec_context is not None]
    if not videos:
        kinds = sorted({stream.type for stream in container.streams})
        raise VideoError(f"no video stream, only {', '.join(kinds)}" if kinds else "no streams at all")
    if not moving:
        raise VideoError("no video stream, only a cover picture")
    if not known:
        raise VideoError("no decoder for its video codec")
    if len(known) > 1:
        known = _films(known, packet_counts)
    best = max(known, key=_stream_rank)
    for stream in container.streams:
        if stream.index != best.index:
            stream.discard = av.stream.Discard.all  # spares reading the sound
    return best


def _films(streams: list[av.video.stream.VideoStream], packet_counts: Callable) -> list[av.video.stream.VideoStream]:
    counts = {stream.index: len(stream.index_entries) for stream in streams}
    if any(not stream.frames or stream.frames != counts[stream.index] for stream in streams):
        counts = packet_counts()
    most = max(counts[stream.index] for stream in streams)
    return [stream for stream in streams if counts[stream.index] * FAR_FEWER >= most]


def _stream_rank(stream: av.video.stream.VideoStream) -> tuple[bool, int, bool]:
    default = bool(stream.disposition & av.stream.Disposition.default)
    several = stream.frames != 1  # animated AVIF: a still picture stands before the video
    return default, stream.codec_context.width * stream.codec_context.height, several


REASONS = {
    av.error.InvalidDataError: "not a video, or damaged beyond reading",
    av.error.EOFError: "ends before any video data",
    av.error.DecoderNotFoundError: "no decoder for its video codec",
    av.error.PatchWelcomeError: "uses a feature that the decoder does not support",
}


@contextlib.contextmanager
def readable_failures() -> Iterator[None]:
    """Turn whatever libav and PyAV raise into VideoError with one line of text."""
    try:
        yield
    except VideoError:
        raise
    except MemoryError as error:
        raise VideoError("needs more memory than a video may use") from error
    except tuple(REASONS) as error:
        raise VideoError(next(text for kind, text in REASONS.items() if isinstance(error, kind))) from error
    except (av.error.FFmpegError, OSError, ValueError, IndexError, RuntimeError) as error:
        log = getattr(error, "log", None)  # libav's own words say more than its error number
        text = log[2] if log else getattr(error, "strerror", None) or str(error)
        is_storage = isinstance(error, OSError) and not isinstance(error, av.error.FFmpegError)
        verb = "read" if is_storage else "decoded"
        raise VideoError(f"cannot be {verb}: {' '.join(text.split())}") from error
