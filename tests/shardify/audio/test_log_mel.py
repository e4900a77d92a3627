"""The spectrogram against a slow one of its own, straight from the definition in docs/format.md."""

import cmath
import math

import numpy as np
import pytest

from shardify.audio.log_mel import MelBands, SpanMel, mel_filters
from shardify.errors import UsageError
from shardify.format.members.mel import FLOOR, Mel

MEL = Mel(rate=1000, mels=6, columns=4, window=30.0, hop=12.0, low=50.0, high=450.0)


def slow_filters(num_bins, member):
    """Triangles by cases."""
    to_mel = lambda hertz: 2595 * math.log10(1 + hertz / 700)  # noqa: E731
    step = (to_mel(member.high) - to_mel(member.low)) / (member.mels + 1)
    corners = [700 * (10 ** ((to_mel(member.low) + i * step) / 2595) - 1) for i in range(member.mels + 2)]
    filters = np.zeros((num_bins, member.mels))
    for bin in range(num_bins):
        hertz = bin * member.rate / 2 / (num_bins - 1)
        for band, (left, top, right) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
            if left < hertz <= top:
                filters[bin, band] = (hertz - left) / (top - left)
            elif top < hertz < right:
                filters[bin, band] = (right - hertz) / (right - top)
    return filters


def slow_mel(samples, at, start, length, member, fft_size):
    """(M, F) of sound (C, n) that begins at sample `at`, by sums of complex numbers."""
    size = round(member.window * member.rate / 1000)
    per_column = math.ceil(length / member.columns / (member.hop * member.rate / 1000))
    turns = [cmath.exp(-2j * math.pi * i / fft_size) for i in range(fft_size)]
    filters = slow_filters(fft_size // 2 + 1, member)
    found = np.zeros((member.mels, member.columns))
    for column in range(member.columns):
        power = np.zeros(fft_size // 2 + 1)
        for number in range(column * per_column, (column + 1) * per_column):
            first = math.floor(start + (number + 0.5) * length / (member.columns * per_column) + 0.5) - size // 2
            for channel in samples:
                windowed = [
                    channel[first + i - at] * (0.5 - 0.5 * math.cos(2 * math.pi * i / size))
                    if 0 <= first + i - at < len(channel)
                    else 0.0
                    for i in range(size)
                ]
                for bin in range(len(power)):
                    value = sum(x * turns[bin * i % fft_size] for i, x in enumerate(windowed))
                    power[bin] += abs(value) ** 2 / len(samples) / per_column
        found[:, column] = np.log(filters.T @ power + 1e-10)
    return found


def test_it_equals_the_definition():
    samples = np.random.default_rng(0).normal(0, 0.3, (2, 150))
    bands, span = MelBands(MEL), SpanMel(MEL, 10.25, 170.0)
    span.add(30, samples[:, :80], (30, 110))
    span.add(60, samples[:, 30:], (110, 10_000))
    expected = slow_mel(samples, 30, 10.25, 170.0, MEL, bands.fft_size)
    assert np.abs(span.finish()[0] - expected).max() < 1e-12
    assert span.reach == (1, 190)


def test_filters_equal_those_of_others():
    member = Mel(rate=16_000, mels=40, columns=1, window=25.0, hop=10.0, low=100.0, high=7600.0)
    assert np.abs(mel_filters(257, member) - slow_filters(257, member)).max() < 1e-12
    audio_utils = pytest.importorskip("transformers.audio_utils")
    theirs = audio_utils.mel_filter_bank(257, 40, 100.0, 7600.0, 16_000)
    assert np.abs(mel_filters(257, member) - theirs).max() < 1e-12


def test_the_transform_is_as_long_as_it_takes_for_no_band_to_be_empty():
    def member(**fields):
        return Mel(
            **{"rate": 16_000, "mels": 40, "columns": 1, "window": 25.0, "hop": 10.0, "low": 0.0, "high": 8000.0}
            | fields
        )

    assert [MelBands(member(mels=mels)).fft_size for mels in (8, 40, 128)] == [512, 512, 1024]
    assert MelBands(member(window=32.0)).fft_size == 512
    with pytest.raises(
        UsageError, match=r"^--audio-mels 512 from 0 to 8000 Hz are bands too narrow for windows of 5 ms"
    ):
        MelBands(member(mels=512, window=5.0))


def test_opposite_channels_do_not_cancel_and_silence_is_the_floor():
    tone = np.sin(2 * np.pi * 200 * np.arange(200) / 1000)[None]
    alone, opposite, silent = (SpanMel(MEL, 0.0, 200.0) for _ in range(3))
    alone.add(0, tone, (0, 200))
    opposite.add(0, np.concatenate([tone, -tone]), (0, 200))
    silent.add(0, 0 * tone, (0, 200))
    assert np.array_equal(alone.finish(), opposite.finish()) and alone.finish().max() > 0
    assert (silent.finish() == FLOOR).all()


def test_a_span_without_length_is_one_moment():
    span = SpanMel(MEL, 50.0, 0.0)
    span.add(0, np.ones((1, 100)), (0, 100))
    assert span.reach == (35, 65) and np.unique(span.finish()[0], axis=1).shape == (6, 1)
