"""Log mel spectrograms: powers of windows of sound in bands, summed over the columns of a span of time."""

from __future__ import annotations

import functools
import math

import numpy as np

from shardify.errors import UsageError
from shardify.format.members.mel import MIN_POWER, Mel

MAX_PADDING = 8  # the Fourier transform's length is at most this many times the window's
BATCH = 1 << 15  # samples that are transformed at a time: they stay in the processor's cache


class MelBands:
    """The power of windows of sound in the bands of a member. Raises UsageError where a band would be empty.

    size: of a window, samples. fft_size: of the Fourier transform, the smallest power of two that leaves no band empty.
    """

    def __init__(self, member: Mel) -> None:
        self.size = max(1, round(member.window * member.rate / 1000))
        self.hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.size) / self.size)
        for fft_size in self._sizes():
            filters = mel_filters(fft_size // 2 + 1, member)
            if filters.any(axis=0).all():
                break
        else:
            raise UsageError(
                f"--audio-mels {member.mels} from {member.low:g} to {member.high:g} Hz are bands too narrow for "
                f"windows of {member.window:g} ms; pass fewer --audio-mels, a higher --audio-low or a longer "
                "--audio-window"
            )
        self.fft_size = fft_size
        # the bins of each band in a row, and where each begins: a product of matrices would start BLAS's threads
        bands, self._bins = np.nonzero(filters.T)
        self._weights = filters.T[bands, self._bins]
        self._starts = np.searchsorted(bands, np.arange(member.mels))

    def _sizes(self) -> list[int]:
        smallest = 1 << (self.size - 1).bit_length()
        sizes = [smallest << doublings for doublings in range(MAX_PADDING.bit_length())]
        return [size for size in sizes if size == smallest or size <= MAX_PADDING * self.size]

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """float64 (N, M) of windows (N, C, size): the mean over the channels C."""
        parts = np.fft.rfft(windows * self.hann, self.fft_size).view(np.float64)  # real and imaginary ones in turns
        squares = np.square(parts, out=parts).mean(axis=1)
        power = squares[:, ::2] + squares[:, 1::2]
        return np.add.reduceat(power[:, self._bins] * self._weights, self._starts, axis=1)


@functools.cache
def mel_bands(member: Mel) -> MelBands:
    """As `MelBands`, made once in a process."""
    return MelBands(member)


def mel_filters(num_bins: int, member: Mel) -> np.ndarray:
    """float64 (bins, M): triangles that are 1 at their middle, evenly wide on the HTK scale, 2595 · lg(1 + f / 700)."""
    low, high = (2595 * math.log10(1 + hertz / 700) for hertz in (member.low, member.high))
    corners = 700 * (10 ** (np.linspace(low, high, member.mels + 2) / 2595) - 1)
    bins = np.linspace(0, member.rate / 2, num_bins)[:, None]
    widths = np.diff(corners)
    rising, falling = (bins - corners[:-2]) / widths[:-1], (corners[2:] - bins) / widths[1:]
    return np.maximum(0, np.minimum(rising, falling))


class SpanMel:
    """The columns of one span of time, filled from sound that comes in order.

    start: of the span, in samples from moment 0; length: of it, samples.
    """

    def __init__(self, member: Mel, start: float, length: float) -> None:
        self._bands, self._mels, self._columns = mel_bands(member), member.mels, member.columns
        hop = member.hop * member.rate / 1000
        self._per_column = max(1, math.ceil(length / member.columns / hop))
        self._start, self._hop = start, length / (member.columns * self._per_column)
        self._power: np.ndarray | None = None  # (F, M), sums over the windows

    def _firsts(self, numbers: np.ndarray) -> np.ndarray:
        """The first sample of each of these windows."""
        centres = self._start + (numbers + 0.5) * self._hop
        return np.floor(centres + 0.5).astype(np.int64) - self._bands.size // 2

    @property
    def size(self) -> int:
        """Of its windows, samples."""
        return self._bands.size

    @property
    def reach(self) -> tuple[int, int]:
        """The first sample of its first window, and the one after the last of its last."""
        first, last = self._firsts(np.array([0, self._columns * self._per_column - 1])).tolist()
        return first, last + self._bands.size

    def add(self, at: int, samples: np.ndarray, ends: tuple[int, int]) -> None:
        """Add the windows that end after the first of `ends`, and by the second of them, in samples from moment 0.

        samples: (C, n), of which the first is number `at`; beyond them there is silence.
        """
        size = self._bands.size
        numbers = self._numbers(ends[0], min(ends[1], at + samples.shape[1] + size - 1))
        if not len(numbers):
            return
        if self._power is None:
            self._power = np.zeros((self._columns, self._mels))
        padded = np.pad(samples, ((0, 0), (size, size)))
        views = np.lib.stride_tricks.sliding_window_view(padded, size, axis=1)
        batch = max(1, BATCH // (self._bands.fft_size * len(samples)))
        for part in np.array_split(numbers, range(batch, len(numbers), batch)):
            windows = views[:, self._firsts(part) - at + size].swapaxes(0, 1)
            np.add.at(self._power, part // self._per_column, self._bands(windows))

    def _numbers(self, after: int, until: int) -> np.ndarray:
        """Of the windows whose end is above `after` and at most `until`."""
        size, num_windows = self._bands.size, self._columns * self._per_column
        if self._hop:  # about, with some to spare
            low, high = ((end - size // 2 - self._start) / self._hop for end in (after, until))
            numbers = np.arange(max(0, math.floor(low) - 2), min(num_windows, math.ceil(high) + 2))
        else:
            numbers = np.arange(num_windows)
        ends = self._firsts(numbers) + size
        return numbers[(ends > after) & (ends <= until)]

    def finish(self) -> np.ndarray:
        """float64 (1, M, F): the natural logarithm of the mean power."""
        power = np.zeros((self._columns, self._mels)) if self._power is None else self._power
        return np.log(power.T[None] / self._per_column + MIN_POWER)
