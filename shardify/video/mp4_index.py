"""The index of long mp4 files: frames' times from its entries, so that only the packets needed are read.

An entry of the mp4/mov index gives a packet's decoding time and whether it is a key frame, not when it
is shown. At a constant rate that is enough to name the frames: number i is shown at the first time
plus i steps. Every packet that is read must fit this, and so must the beginning and the end of the
video; any doubt returns None, and the whole file is demuxed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from fractions import Fraction

import av

from shardify.video.keyframes import SKIPPING_CODECS, holds_one_picture, is_of_higher_layer
from shardify.video.sampling import ClipPlan, is_constant_rate
from shardify.video.timeline import (
    KEPT_BYTES,
    MAX_PACKETS,
    BrokenOffError,
    Timeline,
    codec_of,
    demux,
    entry_test,
    tell_frames,
)

LONG_FRAMES = 2000  # below, demuxing everything costs less than a tenth of the decoding
MAX_REORDER = 32  # packets by which decoding order and display order may differ; H.264 allows 16


def is_long_and_indexed(stream: av.video.stream.VideoStream) -> bool:
    """Whether the index has an entry for every frame (mp4 and mov, not fragmented) and is worth using."""
    return LONG_FRAMES <= stream.frames == len(stream.index_entries) <= MAX_PACKETS


def indexed_timeline(
    stream: av.video.stream.VideoStream, file_bytes: int, plan: Callable[[list[int], int, Fraction], ClipPlan]
) -> Timeline | None:
    """The timeline of a constant-rate video with only the packets that `plan` needs; None if in doubt."""
    entries = list(stream.index_entries)
    starts = [entry.timestamp for entry in entries]
    ends_inside = all(entry.size > 0 and entry.pos + entry.size <= file_bytes for entry in entries)
    if not ends_inside or any(entry.is_discard for entry in entries) or not is_constant_rate(starts):
        return None
    keys = [i for i, entry in enumerate(entries) if entry.is_keyframe]
    if not keys or keys[0] != 0:
        return None
    source = _IndexedSource(stream, entries, keys)
    times, last_duration = source.display_times(starts)
    if times is None:
        return None
    numbers = sorted({number for clip in plan(times, last_duration, stream.time_base) for number in clip})
    packets = source.packets_for(numbers, times)
    if not packets:
        return None
    codec, extradata = codec_of(stream)
    if not all(holds_one_picture(packet, codec, extradata) for packet in packets):
        return None
    can_skip = codec in SKIPPING_CODECS and not any(is_of_higher_layer(packet, codec, extradata) for packet in packets)
    entries = [i for i, packet in enumerate(packets) if source.can_begin(packet)]
    return Timeline(packets, entries, times, last_duration, can_skip)


class _IndexedSource:
    def __init__(self, stream, entries, keys: list[int]):
        self.stream, self.entries, self.keys = stream, entries, keys
        self.can_begin = entry_test(stream)
        self.shift = 0  # from decoding to presentation time, as far as seeking is concerned

    def display_times(self, starts: list[int]) -> tuple[list[int] | None, int]:
        """Times of all frames, drawn between the first and the last that are really there."""
        count, span = len(starts), starts[-1] - starts[0]
        head = self.read(0, min(count, MAX_REORDER))
        if not head or not tell_frames(self.stream, head, head):
            return None, 0
        first = head[0].pts
        self.shift = first - starts[0]
        tail = self.read(self.keys[-1], count)
        if not tail:
            return None, 0
        last = max(tail, key=lambda packet: packet.pts)
        if abs(last.pts - first - span) > 1:
            return None, 0
        times = [first + (2 * i * span + count - 1) // (2 * (count - 1)) for i in range(count)]
        times[-1] = last.pts
        return times, last.duration or 0

    def packets_for(self, numbers: list[int], times: list[int]) -> list[av.Packet] | None:
        """Packets from which the frames `numbers` can be decoded; puts their real times into `times`."""
        runs = self._runs(numbers, back=0)
        packets = self._read_runs(runs)
        if packets and any(times[number] < self._key_pts(packets, number) for number in numbers):
            packets = self._read_runs(self._runs(numbers, back=1))
        if not packets:
            return None
        found = {packet.pts for packet in packets}
        if len(found) < len(packets):
            return None
        for number in numbers:
            times[number] = next((t for t in _nearest(times[number]) if t in found), None)
            if times[number] is None:
                return None
        return packets

    def _key_pts(self, packets: list[av.Packet], number: int) -> int:
        start = self.entries[self.keys[bisect_right(self.keys, number) - 1]].timestamp
        return next(packet.pts for packet in packets if packet.dts == start)

    def _runs(self, numbers: list[int], back: int) -> list[tuple[int, int]]:
        runs: list[tuple[int, int]] = []
        for number in numbers:
            start = self.keys[max(0, bisect_right(self.keys, number) - 1 - back)]
            stop = min(len(self.entries), number + 1 + MAX_REORDER)
            if runs and start <= runs[-1][1]:
                start = runs.pop()[0]
            runs.append((start, stop))
        return runs

    def _read_runs(self, runs: list[tuple[int, int]]) -> list[av.Packet] | None:
        if sum(entry.size for start, stop in runs for entry in self.entries[start:stop]) > KEPT_BYTES:
            return None
        packets: list[av.Packet] = []
        for start, stop in runs:
            run = self.read(start, stop)
            if not run or not self.can_begin(run[0]):  # the container's key frames need not be entry points
                return None
            packets += run
        return packets

    def read(self, start: int, stop: int) -> list[av.Packet] | None:
        """The packets of entries [start, stop), each checked to be the one that the index names."""
        wanted = self.entries[start:stop]
        packets: list[av.Packet] = []
        try:
            self.stream.container.seek(wanted[0].timestamp + self.shift, stream=self.stream)
            for packet in demux(self.stream):
                entry = wanted[len(packets)]
                if (packet.dts, packet.pos, packet.size) != (entry.timestamp, entry.pos, entry.size):
                    return None
                packets.append(packet)
                if len(packets) == len(wanted):
                    return packets
        except BrokenOffError:
            return None
        return None


def _nearest(time: int) -> tuple[int, int, int]:
    return time, time - 1, time + 1
