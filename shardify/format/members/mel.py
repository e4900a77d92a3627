"""The sound of a clip as a member of a sample: a log mel spectrogram whose columns divide the span of the clip."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from shardify.format.members.array import NumpyFile
from shardify.format.members.base import is_whole

if TYPE_CHECKING:
    from shardify.format.settings import BuildSettings

MIN_POWER = 1e-10  # added before the logarithm
FLOOR = math.log(MIN_POWER)  # of a cell where there is no sound
MAX_RATE, MAX_MELS, MAX_COLUMNS = 500_000, 512, 8192


@dataclass(frozen=True, kw_only=True)
class Mel(NumpyFile):
    """`<key>.mel.npy`, float16 (1, M, F): the natural logarithm of the power in M bands of F columns of time.

    A clip without sound has FLOOR everywhere; samples.npy says so in `mel_present`, `<key>.json` in `has_audio`.
    """

    kind: ClassVar[str] = "mel"
    name: str = "mel"
    rate: int  # Hz, to which the sound is resampled
    mels: int  # M
    columns: int  # F
    window: float  # ms, of a Hann window
    hop: float  # ms, the largest distance between the windows of a column
    low: float  # Hz, where the lowest band begins
    high: float  # Hz, where the highest band ends
    seconds: float | None = None  # of the span around the clip's middle; None: the clip's part of the video

    def __post_init__(self) -> None:
        self._check(self.name == "mel", "name", "mel")
        self._check(is_whole(self.rate, 1, MAX_RATE), "rate", f"1 to {MAX_RATE}")
        self._check(is_whole(self.mels, 1, MAX_MELS), "mels", f"1 to {MAX_MELS}")
        self._check(is_whole(self.columns, 1, MAX_COLUMNS), "columns", f"1 to {MAX_COLUMNS}")
        for field in ("window", "hop"):
            self._check(_is_number(getattr(self, field), above=0), field, "a number of milliseconds")
        self._check(_is_number(self.low) and self.low >= 0, "low", "a frequency in Hz")
        is_right = _is_number(self.high, above=self.low) and self.high <= self.rate / 2
        self._check(is_right, "high", f"a frequency above {self.low} Hz, and half the rate at most")
        is_right = self.seconds is None or _is_number(self.seconds, above=0)
        self._check(is_right, "seconds", "a number of seconds, or null")

    @classmethod
    def of(cls, settings: BuildSettings) -> Mel:
        """What a build with these settings writes."""
        return cls(
            rate=settings.audio_rate,
            mels=settings.audio_mels,
            columns=settings.audio_columns,
            window=settings.audio_window,
            hop=settings.audio_hop,
            low=settings.audio_low,
            high=settings.audio_rate / 2 if settings.audio_high is None else settings.audio_high,
            seconds=settings.audio_seconds,
        )

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float16)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return 1, self.mels, self.columns

    def silence(self) -> np.ndarray:
        """The values of a clip without sound."""
        return np.full(self.shape, FLOOR, self.dtype)

    def picture(self, values: np.ndarray) -> np.ndarray:
        """Low bands below; from black, where there is no sound, to white, where it is loudest."""
        above = values[0, ::-1].astype(np.float32) - FLOOR
        grey = (255 * above / max(1.0, above.max())).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)


def _is_number(value: object, above: float = -math.inf) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value > above
