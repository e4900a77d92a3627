"""What a video's packets say about its frames: when they are shown, and which must be decoded to get one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

import av

from shardify.entry import (
    CHECKED_CODECS,
    SKIPPING_CODECS,
    holds_one_picture,
    is_entry_point,
    is_of_higher_layer,
)
from shardify.errors import VideoError
from shardify.probe import VideoFile

KEPT_BYTES = 64 << 20  # files up to this size are demuxed once, their packets kept in memory
MAX_PACKETS = 2_000_000  # 9 hours at 60 frames/s
BROKEN_OFF, ENDED_EARLY = "the file breaks off", "File ended prematurely"  # the latter in libav's words (Matroska)
FIELD_ORDERS_OF_FRAMES = (0, 1)  # AV_FIELD_UNKNOWN, AV_FIELD_PROGRESSIVE


class BrokenOffError(VideoError):
    """The file ends, or makes no sense any more, in the middle of its data."""


class PacketTimes(NamedTuple):
    """What is remembered of a packet that is not kept."""

    pts: int | None
    dts: int | None
    duration: int | None
    is_discard: bool
    is_corrupt: bool


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


def demux(stream: av.video.stream.VideoStream, logs: Sequence[tuple[int, str, str]] = ()) -> Iterator[av.Packet]:
    """The stream's packets from where it stands; `logs` is what libav has logged about the file.

    Raises BrokenOffError where the file breaks off, and VideoError at the first encrypted packet (without
    the key it decodes to noise, if at all) and where there are too many.
    """
    packets = stream.container.demux(stream)
    for number in count():
        try:
            packet = next(packets, None)
        except av.error.FFmpegError as error:
            raise BrokenOffError(BROKEN_OFF) from error
        if packet is None:
            break
        if packet.size:
            if number >= MAX_PACKETS:
                raise VideoError(f"too long: more than {MAX_PACKETS} frames")
            if packet.has_sidedata("encryption_info"):
                raise VideoError("encrypted, and can only be played with its key")
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
            packets.append(packet if keep else _times_of(packet))
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


def _times_of(packet: av.Packet) -> PacketTimes:
    return PacketTimes(packet.pts, packet.dts, packet.duration, packet.is_discard, packet.is_corrupt)


def tell_frames(stream, packets, shown) -> bool:
    """Whether every packet that is shown gives one frame at its own time.

    Not so where a time is missing or double, where a packet is cut short or may be half a frame,
    where the stream begins with pictures that refer to a lost one (the decoder drops them), and where
    pictures are reordered but their times are not (AVI has no presentation times).
    """
    context = stream.codec_context
    is_avi = stream.container.format.name == "avi"
    if context.codec.canonical_name == "h264" and context.field_order not in FIELD_ORDERS_OF_FRAMES:
        return False
    if any(packet.pts is None or packet.is_corrupt for packet in packets):
        return False
    if len({packet.pts for packet in shown}) < len(shown):
        return False
    if context.has_b_frames and (is_avi or all(packet.pts == packet.dts for packet in packets)):
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
