"""The frame rules of the shard format, on paper-sized examples and against a slow statement of them."""

from fractions import Fraction

import pytest

from shardify.video.sampling import frame_at, is_constant_rate, median_duration, plan_clips, plan_constant_rate


@pytest.mark.parametrize(
    ("count", "frames", "clips", "expected"),
    [
        (10, 4, 1, [(1, 3, 6, 8)]),
        (16, 16, 1, [tuple(range(16))]),
        (300, 16, 1, [(9, 28, 46, 65, 84, 103, 121, 140, 159, 178, 196, 215, 234, 253, 271, 290)]),
        (1, 4, 1, [(0, 0, 0, 0)]),
        (3, 5, 1, [(0, 0, 1, 2, 2)]),
        (12, 2, 3, [(1, 3), (5, 7), (9, 11)]),
    ],
)
def test_spread_frames_sit_in_the_middle_of_their_part(count, frames, clips, expected):
    assert plan_constant_rate(count, frames=frames, clips=clips) == tuple(expected)


@pytest.mark.parametrize(
    ("count", "frames", "clips", "stride", "expected"),
    [
        (10, 4, 1, 1, [(3, 4, 5, 6)]),
        (100, 3, 1, 10, [(40, 50, 60)]),
        (100, 2, 2, 1, [(24, 25), (74, 75)]),
        (20, 4, 4, 3, [(0, 3, 6, 9), (3, 6, 9, 12), (8, 11, 14, 17), (10, 13, 16, 19)]),  # moved inside
        (5, 4, 1, 3, [(0, 1, 4, 4)]),  # longer than the video: the ends repeat
        (1, 3, 2, 7, [(0, 0, 0), (0, 0, 0)]),
    ],
)
def test_strided_frames_surround_the_middle_of_their_segment(count, frames, clips, stride, expected):
    assert plan_constant_rate(count, frames=frames, clips=clips, stride=stride) == tuple(expected)


def test_spread_is_the_formula_of_the_format():
    for count in (1, 2, 15, 16, 17, 299, 5000):
        for clips, frames in ((1, 16), (3, 5), (2, 1)):
            numbers = [n for clip in plan_constant_rate(count, frames=frames, clips=clips) for n in clip]
            parts = clips * frames
            assert numbers == [int((k + Fraction(1, 2)) * count / parts) for k in range(parts)]


def test_rounded_times_are_a_constant_rate():
    millisecond_ticks = [round(i * 1000 / 30) for i in range(300)]  # Matroska: 0, 33, 67, 100, …
    assert is_constant_rate(millisecond_ticks)
    assert plan_clips(millisecond_ticks, 33, frames=16) == plan_constant_rate(300, frames=16)


@pytest.mark.parametrize("times", [[0, 10, 20, 33], [0, 0], [0, 1, 2, 3, 40]])
def test_other_times_are_a_variable_rate(times):
    assert not is_constant_rate(times)


def test_variable_rate_takes_what_is_on_screen():
    # Frames at 0, 10 and 90 of 100 ticks; the middles of four quarters are 12.5, 37.5, 62.5 and 87.5.
    assert plan_clips([0, 10, 90], 10, frames=4) == ((1, 1, 1, 1),)
    assert plan_clips([0, 10, 60, 90], 10, frames=4) == ((1, 1, 2, 2),)
    assert plan_clips([5, 15, 65, 95], 10, frames=2, clips=2) == ((1, 1), (2, 2))


def test_variable_rate_counts_the_last_frame_for_as_long_as_its_packet_says():
    assert plan_clips([0, 10, 30], 70, frames=4) == ((1, 2, 2, 2),)
    assert plan_clips([0, 10, 30], 0, frames=4) == ((0, 1, 1, 2),)  # unknown: the median, 10


def test_variable_rate_strides_by_number_around_the_frame_in_the_middle():
    times = [0, 1, 2, 3, 4, 5, 6, 7, 8, 100]
    assert plan_clips(times, 1, frames=3, stride=1) == ((7, 8, 9),)
    assert plan_clips([0, 10, 20, 30, 45], 10, frames=2, stride=1) == (
        (2, 3),
    )  # the second half of frame 2 is in the middle


def test_frame_at_agrees_with_exact_fractions():
    times, end = [3, 7, 8, 20, 21, 50], 60
    for numerator in range(64):
        moment = 3 + Fraction(57 * numerator, 64)
        assert frame_at(times, end, numerator, 64) == max(i for i, t in enumerate(times) if t <= moment)


def test_median_duration():
    assert median_duration([5]) == 0
    assert median_duration([0, 10, 30, 31]) == 10
