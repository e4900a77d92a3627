"""The timeline of a video: when its frames are shown, as its packets say, and which packets one frame needs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, count, groupby, pairwise
from typing import NamedTuple

import av

from shardify.errors import VideoError
from shardify.video.container import ENCRYPTED, VideoFile
from shardify.video.keyframes import (
    CHECKED_CODECS,
    SKIPPING_CODECS,
    holds_one_picture,
    is_entry_point,
    is_of_higher_layer,
)
from shardify.video.sampling import median_duration

KEPT_BYTES = 64 << 20  # files up to this size are demuxed once, their packets kept in memory
MAX_PACKETS = 2_000_000  # 9 hours at 60 frames/s
BROKEN_OFF, ENDED_EARLY = "the file breaks off", "File ended prematurely"  # the latter in libav's words (Matroska)
FIELD_ORDERS_OF_FRAMES = (0, 1)  # AV_FIELD_UNKNOWN, AV_FIELD_PROGRESSIVE
BACK_FRAMES = 2  # of a clock that begins anew; libav's guesses in MPEG program streams step back by one


class BrokenOffError(VideoError):
    """The file ends, or makes no sense any more, in the middle of its data."""


class PacketTimes(NamedTuple):
    """What is remembered of a packet that is not kept."""

    pts: int | None
    dts: int | None
    duration: int | None
    is_discard: bool
    is_corrupt: bool


class FrameTimes(NamedTuple):
    """What a decoded frame says of its time, and the number of the packet that it comes from."""

    pts: int | None
    dts: int | None
    duration: int
    packet: int


@dataclass(frozen=True)
class Timeline:
    """The frames of a video in display order, as its packets announce them.

    packets: in decoding order; `av.Packet` where kept, else their times.
    entries: numbers of the packets at which decoding can begin.
    times: presentation times of the displayed frames, ticks, strictly rising.
    last_duration: ticks that the last frame lasts, 0 where unknown.
    can_skip: whether the decoder leaves out nothing but what no other picture refers to, told NONREF.
    """

    packets: Sequence[av.Packet | PacketTimes]
    entries: list[int]
    times: list[int]
    last_duration: int
    can_skip: bool

    @property
    def kept(self) -> bool:
        return isinstance(self.packets[0], av.Packet)


def demux(
    stream: av.stream.Stream, logs: Sequence[tuple[int, str, str]] = (), most: int | None = None
) -> Iterator[av.Packet]:
    """The stream's packets from where it stands, `most` (MAX_PACKETS) of them; `logs` is what libav has said of it.

    Raises BrokenOffError where the file breaks off, and VideoError at the first encrypted packet (without
    the key it decodes to noise, if at all) and where there are too many.
    """
    packets, most = stream.container.demux(stream), MAX_PACKETS if most is None else most
    for number in count():
        try:
            packet = next(packets, None)
        except av.error.FFmpegError as error:
            raise BrokenOffError(BROKEN_OFF) from error
        if packet is None:
            break
        if packet.size:
            if number >= most:
                raise VideoError(f"too long: more than {most} frames")
            if packet.has_sidedata("encryption_info"):
                raise VideoError(ENCRYPTED)
            yield packet
    # libav raises nothing where the part that is missing begins with a packet.
    says_so = any(text.startswith(ENDED_EARLY) for _, _, text in logs)
    if says_so or any(entry.pos + entry.size > stream.container.size for entry in stream.index_entries):
        raise BrokenOffError(BROKEN_OFF)


def read_timeline(video: VideoFile, stream: av.video.stream.VideoStream) -> Timeline | None:
    """Demux the whole stream; None where packets do not tell which frames will be shown, and when."""
    keep = video.size_bytes <= KEPT_BYTES
    packets: list[av.Packet | PacketTimes] = []
    entries: list[int] = []
    can_begin = entry_test(stream)
    codec, extradata = codec_of(stream)
    begins_anyway = codec not in CHECKED_CODECS
    can_skip = codec in SKIPPING_CODECS
    try:
        for packet in demux(stream, video.logs):
            if not holds_one_picture(packet, codec, extradata):
                return None
            if can_begin(packet) or (not packets and begins_anyway and packet.is_keyframe):
                entries.append(len(packets))
            can_skip = can_skip and not is_of_higher_layer(packet, codec, extradata)
            packets.append(packet if keep else times_of_packet(packet))
    except BrokenOffError:
        return None
    if not packets:
        raise VideoError("its video stream holds no data")
    shown = [packet for packet in packets if not packet.is_discard]
    if not shown or not entries or entries[0] != 0 or not tell_frames(stream, packets, shown):
        return None
    last = max(shown, key=lambda packet: packet.pts)
    return Timeline(packets, entries, sorted(packet.pts for packet in shown), last.duration or 0, can_skip)


def codec_of(stream: av.video.stream.VideoStream) -> tuple[str, bytes]:
    """The codec's canonical name, and the stream's extradata."""
    return stream.codec_context.codec.canonical_name, stream.codec_context.extradata or b""


def entry_test(stream: av.video.stream.VideoStream) -> Callable[[av.Packet], bool]:
    """A test for packets of this stream at which decoding can begin."""
    codec, extradata = codec_of(stream)
    return lambda packet: is_entry_point(packet, codec, extradata)


def times_of_packet(packet: av.Packet) -> PacketTimes:
    return PacketTimes(packet.pts, packet.dts, packet.duration, packet.is_discard, packet.is_corrupt)


def guesses_times(stream: av.video.stream.VideoStream) -> bool:
    """Whether presentation times are libav's guesses, for the container has none (AVI)."""
    return stream.container.format.name == "avi"


def joints(packets: Sequence[av.Packet | PacketTimes]) -> list[int]:
    """Numbers of the packets at which the decoding clock begins anew: another recording was joined there.

    It must step back by frames and stay back: one false time, early or late, is no joint. Hidden packets do not
    count: edit lists of mp4 show parts of a recording in another order.
    """
    timed = [(i, p.dts, p.duration or 0) for i, p in enumerate(packets) if p.dts is not None and not p.is_discard]
    clock = [dts for _, dts, _ in timed]
    return [
        timed[k][0]
        for k in range(1, len(timed))
        if clock[k - 1] - clock[k] >= max(1, BACK_FRAMES * timed[k - 1][2])
        and (k < 2 or clock[k] <= clock[k - 2])
        and (k + 1 == len(clock) or clock[k + 1] < clock[k - 1])
    ]


def tell_frames(stream, packets, shown) -> bool:
    """Whether every packet that is shown gives one frame at its own time.

    Not so where a time is missing or double, where a packet is cut short or may be half a frame,
    where recordings were joined, where the stream begins with pictures that refer to a lost one (the
    decoder drops them), and where pictures are reordered but their times are not.
    """
    context = stream.codec_context
    if context.codec.canonical_name == "h264" and context.field_order not in FIELD_ORDERS_OF_FRAMES:
        return False
    if any(packet.pts is None or packet.is_corrupt for packet in packets):
        return False
    if len({packet.pts for packet in shown}) < len(shown):
        return False
    if joints(packets):
        return False
    if context.has_b_frames and (guesses_times(stream) or all(packet.pts == packet.dts for packet in packets)):
        return False
    return min(packet.pts for packet in packets) == packets[0].pts


def packet_runs(timeline: Timeline, wanted: Collection[int]) -> list[tuple[int, int]]:
    """Runs [start, stop) of packets to decode, each from an entry, that give the frames at `wanted` times.

    A wanted picture that is shown before its entry (open groups of pictures: it may refer to the
    group before) needs the entry before that one.

        decoding order   I0 P3 B1 B2 | I6 B4 B5 P8 B7 | I9 …
        wanted 5         runs from I0 to B5
        wanted 7         runs from I6 to B7
    """
    packets, entries = timeline.packets, timeline.entries
    runs: list[tuple[int, int]] = []
    for i, packet in enumerate(packets):
        if packet.pts not in wanted or packet.is_discard:
            continue
        entry = bisect_right(entries, i) - 1
        while entry > 0 and packets[entries[entry]].pts > packet.pts:
            entry -= 1
        start = entries[entry]
        while runs and start < runs[-1][1]:
            start = min(start, runs.pop()[0])
        runs.append((start, i + 1))
    return runs


def times_of_frames(found: Sequence[FrameTimes], starts: list[int], stream) -> tuple[list[int], list[int], int]:
    """Times in display order, where each of these frames is in decoder order, and the last's duration.

    Recordings that were joined (at the packets `starts`) follow one another as in the file, each from
    where the one before ends.
    """
    times, order, last_duration, step = [], [], 0, 0
    recording = [bisect_right(starts, frame.packet) for frame in found]
    for _, group in groupby(sorted(range(len(found)), key=recording.__getitem__), key=recording.__getitem__):
        numbers = list(group)
        own_times, own_order, own_last = _times_of_recording([found[i] for i in numbers], stream)
        shift = times[-1] + (last_duration or step or 1) - own_times[0] if times else 0
        times += [time + shift for time in own_times]
        order += [numbers[i] for i in own_order]
        last_duration, step = own_last, median_duration(own_times) or step
    return times, order, last_duration


def _times_of_recording(found: Sequence[FrameTimes], stream) -> tuple[list[int], list[int], int]:
    """`times_of_frames` within one clock.

    Decoders give frames in display order, and presentation times that run against it are at fault (guessed,
    for the container has none, or false): decoding times serve instead. Only a decoder of H.264 may find out
    too late how far to reorder: where no more than one time in eight runs against its order, the times are
    right. Raw streams have neither: the frame rate serves.
    """
    order = list(range(len(found)))
    times = [frame.pts for frame in found]
    if None not in times:
        late = sum(time < latest for time, latest in zip(times, accumulate(times, max), strict=True))
        may_sort = stream.codec_context.codec.canonical_name == "h264" and not guesses_times(stream)
        if late * 8 <= len(times) * may_sort:
            order.sort(key=times.__getitem__)
            return [times[i] for i in order], order, found[order[-1]].duration
    times = [frame.dts for frame in found]
    if None not in times and all(a < b for a, b in pairwise(times)):
        return times, order, found[-1].duration
    step = max(1, round(1 / ((stream.guessed_rate or 25) * stream.time_base)))
    return [i * step for i in order], order, step
