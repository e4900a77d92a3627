"""The wanted frames of a video: taken the quick way by packet times, or the thorough way by counting.

Three things make the first quick, none of which changes a pixel: pictures that nobody wants are neither
converted nor, where no other picture refers to them, decoded (`skip_frame = NONREF`, set packet by
packet: it needs a decoder with one thread); and groups of pictures without a wanted one are jumped.
All of it relies on the packets' times, so every wanted frame must come out at the time that the plan
gave it, and nothing may be reported as damaged. Else everything is decoded to learn which frames there
are, and again to take the wanted ones where the number of packets did not tell their number.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av

from shardify.errors import VideoError
from shardify.video.container import HDR_TRANSFERS, TOO_LARGE, VideoFile, VideoInfo
from shardify.video.mp4_index import indexed_timeline, is_long_and_indexed
from shardify.video.piece import Piece
from shardify.video.resize import PictureMaker, geometry_of
from shardify.video.sampling import ClipPlan, median_duration, plan_clips
from shardify.video.timeline import (
    BrokenOffError,
    FrameTimes,
    PacketTimes,
    Timeline,
    demux,
    joints,
    packet_runs,
    read_timeline,
    times_of_frames,
    times_of_packet,
)

MAX_HOURS = 100  # between the first and the last frame: longer by a damaged or made-up time


@dataclass(frozen=True)
class Request:
    """What is wanted of a video: `clips` clips of `frames` pictures each, every `stride`-th frame or spread evenly.

    make_picture: turns decoded frames into pictures; a PictureMaker, or what has the same four methods.
    """

    frames: int = 16
    clips: int = 1
    stride: int | None = None
    make_picture: PictureMaker = field(default_factory=PictureMaker)
    piece: Piece | None = None  # of which the clips are, instead of the whole video

    def plan(self, times: Sequence[int], last_duration: int, time_base: Fraction) -> ClipPlan:
        """As of `plan_clips`, within the piece. Raises VideoError where the video does not have it."""
        start, shown, last_duration = self.shown(times, last_duration, time_base)
        plan = plan_clips(shown, last_duration, frames=self.frames, clips=self.clips, stride=self.stride)
        return tuple(tuple(start + number for number in clip) for clip in plan)

    def shown(self, times: Sequence[int], last_duration: int, time_base: Fraction) -> tuple[int, Sequence[int], int]:
        """Number of the first frame of the piece, when its frames are shown, and ticks that the last one lasts."""
        if not self.piece:
            return 0, times, last_duration
        numbers, last_duration = self.piece.cut(times, last_duration or median_duration(times), time_base)
        return numbers.start, times[numbers.start : numbers.stop], last_duration


@dataclass(frozen=True)
class Taken:
    """The wanted pictures by frame number, and what was learned on the way."""

    plan: ClipPlan
    times: list[int]
    last_duration: int
    pictures: dict[int, Any]  # what `make_picture` made of them
    info: VideoInfo
    time_base: Fraction
    errors: int


@dataclass
class _Decoder:
    """A codec context that counts what it reports as damaged instead of raising it."""

    context: av.video.codeccontext.VideoCodecContext
    logs: list[tuple[int, str, str]]
    jumps: bool = False  # whether packets are left out
    errors: int = 0

    def __call__(self, packet: av.Packet | None) -> list[av.VideoFrame]:
        logged = len(self.logs)
        try:
            frames = self.context.decode(packet)
        except av.error.FFmpegError:
            self.errors += 1
            return []
        damaged = any(frame.is_corrupt for frame in frames) or bool(packet and packet.is_corrupt)
        self.errors += damaged or any(self._means_damage(text) for _, _, text in self.logs[logged:])
        return frames

    def _means_damage(self, text: str) -> bool:
        # A jumped picture cannot be released from the list of references: of no consequence.
        return not (self.jumps and text.startswith("mmco: unref short failure"))


class _PixelAspect:
    """The shape of pixels: what the container says, else what the video's own stream says, picture by picture."""

    def __init__(self, stream: av.video.stream.VideoStream):
        self.context, self.declared = stream.codec_context, stream.sample_aspect_ratio
        self.is_of_container = self.declared != self.context.sample_aspect_ratio

    def __call__(self) -> Fraction | None:
        """That of the picture in the packet that was decoded last."""
        return self.declared if self.is_of_container else self.context.sample_aspect_ratio or self.declared


def take_by_time(video: VideoFile, request: Request) -> Taken | None:
    """The quick way; None where the packets do not tell the frames, or are damaged."""
    with video.demuxer() as stream:
        if not is_long_and_indexed(stream):
            return _take_listed(video, stream, request)
        timeline = indexed_timeline(stream, video.size_bytes, request.plan)
        taken = timeline and _decode_runs(video, stream, timeline.packets, timeline, request)
    if taken:
        return taken
    with video.demuxer() as stream:
        return _take_listed(video, stream, request)


def _take_listed(video: VideoFile, stream: av.video.stream.VideoStream, request: Request) -> Taken | None:
    timeline = read_timeline(video, stream)
    if timeline is None:
        return None
    if timeline.kept:
        return _decode_runs(video, stream, timeline.packets, timeline, request)
    with video.demuxer() as second:
        return _decode_runs(video, second, demux(second), timeline, request)


def _decode_runs(
    video: VideoFile,
    stream: av.video.stream.VideoStream,
    packets: Iterable[av.Packet],
    timeline: Timeline,
    request: Request,
) -> Taken | None:
    plan = request.plan(timeline.times, timeline.last_duration, stream.time_base)
    wanted = {timeline.times[number]: number for numbers in plan for number in numbers}
    runs = packet_runs(timeline, wanted)
    if runs[0][0] > 0:
        runs.insert(0, (0, 1))  # the first picture, whose colours count for all
    decoder = _Decoder(stream.codec_context, video.logs, jumps=len(runs) > 1)
    pixel_aspect = _PixelAspect(stream)
    pictures, info, aspect = {}, None, None
    shown_until = timeline.times[0] - 1
    for frame in _frames_of_runs(decoder, packets, runs, wanted if timeline.can_skip else None):
        if decoder.errors or frame.pts is None or frame.pts <= shown_until:
            return None
        if shown_until < timeline.times[0]:
            request.make_picture.begin(frame)
        shown_until = frame.pts
        number = wanted.get(frame.pts)
        if number is None:
            continue
        before, aspect = aspect, pixel_aspect()
        if pictures and aspect != before:
            return None  # which pictures have which, packets do not tell
        pictures[number] = request.make_picture(frame, aspect)
        info = info or _describe(stream, frame, aspect, timeline.times, timeline.last_duration)
        if len(pictures) == len(wanted):
            return Taken(plan, timeline.times, timeline.last_duration, pictures, info, stream.time_base, 0)
    return None


def _frames_of_runs(decoder, packets, runs, wanted) -> Iterator[av.VideoFrame]:
    """Decode runs of packets, each on its own; with `wanted` times, leave out what nothing refers to."""
    runs = iter(runs)
    start, stop = next(runs)
    key_pts = None
    for i, packet in enumerate(packets):
        if i == stop:
            yield from decoder(None)
            if (run := next(runs, None)) is None:
                return
            decoder.context.flush_buffers()
            start, stop = run
        if i < start:
            continue
        if i == start:
            key_pts = packet.pts
        elif packet.pts < key_pts:
            continue  # shown before the key frame: refers to what was jumped
        if wanted is not None:
            decoder.context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        yield from decoder(packet)
    yield from decoder(None)


def take_by_counting(video: VideoFile, request: Request) -> Taken:
    """The thorough way: decode everything to learn the frames, and once more if others were guessed."""
    with video.demuxer() as stream:
        guess = _guess(stream, request)
    while True:
        found, packets, pictures, info_of = [], [], {}, None  # by number in the decoder's order
        with video.demuxer() as stream:
            decoder = _Decoder(stream.codec_context, video.logs)
            for i, (frame, aspect) in enumerate(_all_frames(decoder, stream, found, packets)):
                if i == 0:
                    request.make_picture.begin(frame)
                if i in guess:
                    pictures[i] = request.make_picture(frame, aspect)
                    info_of = info_of or functools.partial(_describe, stream, frame, aspect)
            if not found:
                raise VideoError(_no_frame_reason(video))
            times, order, last_duration = times_of_frames(found, joints(packets), stream)
            plan = request.plan(times, last_duration, stream.time_base)
            wanted = {order[number]: number for numbers in plan for number in numbers}
            if pictures.keys() == wanted.keys():
                taken = {wanted[i]: picture for i, picture in pictures.items()}
                info = info_of(times, last_duration)
                return Taken(plan, times, last_duration, taken, info, stream.time_base, decoder.errors)
        if guess == wanted.keys():
            raise VideoError("gives different frames each time it is decoded")
        guess = wanted.keys()


def _guess(stream: av.video.stream.VideoStream, request: Request) -> Collection[int]:
    """Numbers of the frames that are wanted if every packet gives one, at a constant rate."""
    count = 0
    with contextlib.suppress(BrokenOffError):
        for packet in demux(stream):
            count += not packet.is_discard
    with contextlib.suppress(VideoError):  # what packets say of a piece is not the last word
        plan = request.plan(range(max(1, count)), 1, 1 / Fraction(stream.guessed_rate or 25))
        return {number for numbers in plan for number in numbers}
    return set()


def _all_frames(
    decoder: _Decoder, stream: av.video.stream.VideoStream, found: list[FrameTimes], packets: list[PacketTimes]
) -> Iterator[tuple[av.VideoFrame, Fraction | None]]:
    """Every frame in the decoder's order, with its pixels' shape; fills `found`, and `packets` with those decoded."""
    pixel_aspect, aspects = _PixelAspect(stream), []
    decoder.context.copy_opaque = True  # each frame says which packet it comes from

    def frames_of(packet: av.Packet | None) -> Iterator[tuple[av.VideoFrame, Fraction | None]]:
        frames = decoder(packet)
        if packet:
            packets.append(times_of_packet(packet))
            aspects.append(pixel_aspect())
        for frame in frames:
            number = len(packets) - 1 if frame.opaque is None else frame.opaque
            found.append(FrameTimes(frame.pts, frame.dts, frame.duration or 0, number))
            yield frame, aspects[number]

    try:
        for packet in demux(stream, decoder.logs):
            packet.opaque = len(packets)
            yield from frames_of(packet)
    except BrokenOffError:
        decoder.errors += 1
    yield from frames_of(None)


def _no_frame_reason(video: VideoFile) -> str:
    texts = [" ".join(text.split()) for _, _, text in video.logs]
    for text in texts:
        if too_large := re.search(r"Picture size (\d+)x(\d+)", text):
            return TOO_LARGE.format(*too_large.groups())
    return f"no frame can be decoded ({texts[-1]})" if texts else "no frame can be decoded"


def _describe(
    stream, frame: av.VideoFrame, pixel_aspect: Fraction | None, times: list[int], last_duration: int
) -> VideoInfo:
    geometry = geometry_of(frame, pixel_aspect)
    width, height = (frame.height, frame.width) if geometry.sideways else (frame.width, frame.height)
    duration = float((times[-1] - times[0] + (last_duration or median_duration(times))) * stream.time_base)
    if duration > MAX_HOURS * 3600:
        raise VideoError(f"too long: its frames span {duration / 3600:.0f} hours, more than {MAX_HOURS}")
    return VideoInfo(
        width=width,
        height=height,
        display_width=geometry.shown_size[0],
        display_height=geometry.shown_size[1],
        num_frames=len(times),
        fps=len(times) / duration if duration > 0 else 0.0,
        duration_seconds=duration,
        codec=stream.codec_context.codec.canonical_name,
        pixel_format=frame.format.name,
        rotation_degrees=geometry.rotation_degrees,
        mirrored=geometry.mirrored,
        hdr=HDR_TRANSFERS.get(frame.color_trc, "none"),
    )
