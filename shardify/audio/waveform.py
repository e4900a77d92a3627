"""Waveforms: the decoded sound of a file, each stretch of it placed by its own presentation times."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import av
import numpy as np

from shardify.errors import VideoError
from shardify.video.container import VideoFile, open_container
from shardify.video.timeline import BrokenOffError, demux

TOLERANCE = 0.02  # seconds between where a frame begins and where the one before ended, in one stretch
STEP_BACK = 0.5  # seconds; a clock that steps back further has begun anew
BEFORE, AFTER = 2.0, 1.0  # seconds around a span that are decoded as well: decoders and windows reach over its ends
MAX_SECONDS = 360_000  # of a time: more is damage
MAX_FRAME_SECONDS, MAX_SOURCE_RATE = 60, 1_000_000  # of a frame, and in Hz: more is a made-up sample rate
MAX_PACKETS = 1 << 31  # the worker's CPU time ends long files


@dataclass(frozen=True)
class SoundInfo:
    """What decoded sound is before it is resampled; empty and 0 where there is none."""

    codec: str = ""
    rate: int = 0
    channels: int = 0


class Block(NamedTuple):
    """Some sound: float32 (C, n), whose first sample is number `at` on the wanted rate's clock, from moment 0.

    begins, ends: whether it is the first or the last of a stretch; those between follow one another without a gap.
    """

    at: int
    samples: np.ndarray
    begins: bool
    ends: bool


class Waveform:
    """The sound of an open file around the wanted spans, resampled to `rate`; `errors` counts what was damaged.

    spans: (beginning, length) in seconds, by their beginning. first_at: where the sound's first sample is to stand, in
    seconds; None: where its presentation times say.
    """

    def __init__(
        self, file: VideoFile, rate: int, spans: Sequence[tuple[float, float]], first_at: float | None = None
    ) -> None:
        self.info, self.errors = SoundInfo(), 0
        self._file, self._rate, self._first_at = file, rate, first_at
        self._shift = 0.0 if first_at is None else None  # seconds from the file's clock to that of the spans
        self._wanted: list[list[float]] = []  # intervals that do not meet
        for start, length in spans:
            begin, end = start - BEFORE, start + length + AFTER
            if self._wanted and begin <= self._wanted[-1][1]:
                self._wanted[-1][1] = max(end, self._wanted[-1][1])
            else:
                self._wanted.append([begin, end])

    def blocks(self, formats: str) -> Iterator[Block]:
        """All of it, in order, from a fresh demuxer of one of these formats."""
        self._file.file.seek(0)
        with open_container(self._file.file, formats=formats) as container:
            stream = choose_sound(container)
            if stream is not None:
                stream.codec_context.thread_count = 1
                yield from self._stretches(self._frames(stream))

    def _stretches(self, frames: Iterator[tuple[float, av.AudioFrame]]) -> Iterator[Block]:
        stretch = None
        for start, frame in frames:
            if stretch and not stretch.continues(start, frame):
                yield from self._blocks_of(stretch.end)
                if start < stretch.expected - STEP_BACK:
                    self.errors += 1
                    return
                stretch = None
            stretch = stretch or _Stretch(start, frame, self._rate)
            yield from self._blocks_of(functools.partial(stretch.add, frame))
        if stretch:
            yield from self._blocks_of(stretch.end)

    def _blocks_of(self, give: Callable[[], Block | None]) -> Iterator[Block]:
        """The block, where one is given, without what is no number (samples may be stored as floats)."""
        try:
            block = give()
        except (av.error.FFmpegError, ValueError):  # a rate or layout that libav cannot resample
            self.errors += 1
            return
        if block and not np.isfinite(block.samples).all():
            self.errors += 1
            block = block._replace(samples=np.nan_to_num(block.samples, nan=0.0, posinf=0.0, neginf=0.0))
        if block:
            yield block

    def _frames(self, stream: av.audio.stream.AudioStream) -> Iterator[tuple[float, av.AudioFrame]]:
        """Decoded frames with their times in seconds on the clock of the spans."""
        expected = 0.0
        for packet in self._packets(stream):
            for frame in self._decode(stream, packet):
                own = expected if frame.pts is None else frame.time
                is_long = frame.samples > MAX_FRAME_SECONDS * frame.sample_rate
                if is_long or frame.sample_rate > MAX_SOURCE_RATE or abs(own) > MAX_SECONDS:
                    self.errors += 1
                    continue
                expected = own + frame.samples / frame.sample_rate
                if self._shift is None:
                    self._shift = self._first_at - own
                if not self.info.rate:
                    codec = stream.codec_context.codec.canonical_name
                    self.info = SoundInfo(codec, frame.sample_rate, frame.layout.nb_channels)
                yield own + self._shift, frame

    def _decode(self, stream: av.audio.stream.AudioStream, packet: av.Packet | None) -> list[av.AudioFrame]:
        try:
            return stream.codec_context.decode(packet)
        except av.error.EOFError:
            return []
        except (av.error.FFmpegError, ValueError):
            self.errors += 1
            return []

    def _packets(self, stream: av.audio.stream.AudioStream) -> Iterator[av.Packet | None]:
        """The packets to decode, and None at the end: those around the spans, as far as they have times."""
        wanted, is_left_out, tick = iter(self._wanted), False, float(stream.time_base)
        interval = next(wanted, None)
        try:
            for packet in demux(stream, self._file.logs, MAX_PACKETS):
                time = packet.dts if packet.pts is None else packet.pts
                if time is not None and self._shift is not None:
                    moment = time * tick + self._shift
                    while interval and moment > interval[1]:
                        interval = next(wanted, None)
                    if interval is None:
                        return
                    if moment < interval[0]:
                        is_left_out = True
                        continue
                if is_left_out:
                    stream.codec_context.flush_buffers()
                    is_left_out = False
                yield packet
        except (BrokenOffError, VideoError):
            self.errors += 1
        yield None


class _Stretch:
    """Sound without a gap, of one rate, layout and sample format, which one resampler takes."""

    def __init__(self, start: float, frame: av.AudioFrame, rate: int) -> None:
        self.expected = self._start = start  # seconds
        self._kind, self._rate, self._layout = _kind(frame), frame.sample_rate, frame.layout
        self._taken = 0  # samples of the source
        self._fifo, self._to_floats = av.AudioFifo(), av.AudioResampler("flt")
        self._resampler, self._wanted_rate = av.AudioResampler("flt", rate=rate), rate
        self._first = self._at = round(start * rate)

    def continues(self, start: float, frame: av.AudioFrame) -> bool:
        return abs(start - self.expected) <= TOLERANCE and _kind(frame) == self._kind

    def add(self, frame: av.AudioFrame) -> Block | None:
        """Take a frame; a block where a second has come together."""
        self._taken += frame.samples
        self.expected = self._start + self._taken / self._rate
        frame.pts = None  # one after the other
        self._fifo.write(frame)
        return self._give(ends=False) if self._fifo.samples >= self._rate else None

    def end(self) -> Block:
        """The rest, with what the resampler still holds, which may be all of it."""
        return self._give(ends=True)

    def _give(self, ends: bool) -> Block:
        frame = self._fifo.read()
        frames = self._to_floats.resample(frame) if frame else []
        if ends:
            frames.append(self._silence())
        resampled = [part for frame in frames for part in self._resampler.resample(frame)]
        # channels in turns: of more than seven that lie apart, PyAV 18 reads one too many
        parts = [np.empty(0, np.float32), *(part.to_ndarray()[0] for part in resampled)]
        samples = np.ascontiguousarray(np.concatenate(parts).reshape(-1, self._layout.nb_channels).T)
        end = self._first + max(1, round(self._taken * self._wanted_rate / self._rate))
        block = Block(self._at, samples[:, : end - self._at], self._at == self._first, ends)
        self._at += block.samples.shape[1]
        return block

    def _silence(self) -> av.AudioFrame:
        """As much as pushes all sound out of the resampler, whose own end mirrors it, and needs some for that."""
        frame = av.AudioFrame("flt", self._layout, self._rate // 20 + 64)
        frame.sample_rate = self._rate
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        return frame


def choose_sound(container: av.container.InputContainer) -> av.audio.stream.AudioStream | None:
    """The sound track: the default one, else the first; None where there is none with a decoder."""
    known = [stream for stream in container.streams.audio if stream.codec_context is not None]
    best = max(known, key=lambda stream: bool(stream.disposition & av.stream.Disposition.default), default=None)
    for stream in container.streams:
        if best is not None and stream.index != best.index:
            stream.discard = av.stream.Discard.all
    return best


def _kind(frame: av.AudioFrame) -> tuple[int, str, str]:
    return frame.sample_rate, frame.layout.name, frame.format.name
