"""The sound of clips: what lies in the span of each, as a mel spectrogram and as words for its record."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shardify.audio.log_mel import SpanMel, mel_bands
from shardify.audio.waveform import STEP_BACK, Block, SoundInfo, Waveform
from shardify.errors import VideoError
from shardify.format.members.mel import Mel
from shardify.text import SILENT_DB
from shardify.video.container import FORMAT_WHITELIST, VideoFile

SOUND_FORMATS = f"{FORMAT_WHITELIST},wav,w64,flac,caf,aiff,mp3,aac"  # of files beside videos
SILENT_POWER = 10 ** (SILENT_DB / 10)

Span = tuple[float, float]  # beginning and length, seconds


@dataclass(frozen=True)
class ClipSound:
    """The sound of one clip; mel: float16 (1, M, F)."""

    mel: np.ndarray
    is_present: bool
    info: SoundInfo
    span: Span
    coverage: float
    level_db: float
    errors: int

    def to_record(self) -> dict:
        """What the record of the clip, `<key>.json`, says of it."""
        return {
            "has_audio": self.is_present,
            "audio_codec": self.info.codec,
            "audio_source_rate": self.info.rate,
            "audio_channels": self.info.channels,
            "audio_start_seconds": round(self.span[0], 6),
            "audio_span_seconds": round(self.span[1], 6),
            "audio_coverage": round(self.coverage, 6),
            "audio_level_db": round(self.level_db, 2),
            "audio_errors": self.errors,
        }


def clip_sounds(file: VideoFile, parts: Sequence[Span], member: Mel, first_at: float | None = None) -> list[ClipSound]:
    """The sound of each clip of an open file.

    parts: what the clips stand for, in order. first_at: when the sound of a file beside the video begins, as of
    `Waveform`; None: the file is the video. Raises VideoError where a file beside it is no sound.
    """
    spans = [_span(part, member.seconds) for part in parts]
    waveform = Waveform(file, member.rate, spans, first_at)
    clips = [_Clip(member, span) for span in spans]
    waiting = deque(clips)
    kept, done = np.empty((1, 0), np.float32), 0  # the stretch's last samples, and the end of the windows that are done
    for block in waveform.blocks(FORMAT_WHITELIST if first_at is None else SOUND_FORMATS):
        if block.begins:
            kept, done = block.samples, block.at
        else:
            kept = np.concatenate([kept, block.samples], axis=1)
        end = block.at + block.samples.shape[1]
        at = end - kept.shape[1]
        while waiting and waiting[0].reach[1] + STEP_BACK * member.rate <= done:
            waiting.popleft().finish()
        for clip in waiting:
            if clip.reach[0] >= end and clip.begin >= end:
                break
            clip.count(block)
            clip.mel.add(at, kept, (done, end + clip.mel.size if block.ends else end))
        kept, done = kept[:, max(0, kept.shape[1] - mel_bands(member).size) :], end
    for clip in waiting:
        clip.finish()
    if first_at is not None and not waveform.info.rate:
        raise VideoError("holds no sound that can be decoded")
    return [clip.sound(waveform) for clip in clips]


class _Clip:
    """What is gathered of one clip's sound; its sums become values as soon as its span has passed."""

    def __init__(self, member: Mel, span: Span) -> None:
        self._member, self._span = member, span
        start, length = (seconds * member.rate for seconds in span)
        self.mel = SpanMel(member, start, length)
        self.reach = self.mel.reach
        self.begin, self.end = round(start), max(round(start) + 1, round(start + length))
        self._covered, self._energy = 0, 0.0
        self._values = member.silence()

    def count(self, block: Block) -> None:
        """Add up how much of the span has sound, and its energy."""
        inside = block.samples[:, max(0, self.begin - block.at) : max(0, self.end - block.at)]
        self._covered += inside.shape[1]
        self._energy += float(np.square(inside, dtype=np.float64).mean(axis=0).sum())

    def finish(self) -> None:
        if self._covered:
            self._values = self.mel.finish().astype(self._member.dtype)
        self.mel = None

    def sound(self, waveform: Waveform) -> ClipSound:
        is_present = self._covered > 0
        level = 10 * np.log10(self._energy / max(1, self._covered) + SILENT_POWER)
        return ClipSound(
            mel=self._values,
            is_present=is_present,
            info=waveform.info,
            span=self._span,
            coverage=min(1.0, self._covered / (self.end - self.begin)),
            level_db=float(level),
            errors=waveform.errors,
        )


def _span(part: Span, seconds: float | None) -> Span:
    """The span of the columns: the clip's part of the video, or so many seconds around its middle."""
    start, length = part
    return part if seconds is None else (start + (length - seconds) / 2, seconds)
