"""Sampling: which frames a clip takes, as pure functions on integers.

Frame numbers are in display order; times are presentation times in ticks of the stream's time base.
With 10 frames at a constant rate and T = 4, each frame taken is the one at the middle of a quarter:

    frame   0    1    2    3    4    5    6    7    8    9
            |-----------|------------|------------|-----------|
    taken        1           3             6            8
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from statistics import median_low

ClipPlan = tuple[tuple[int, ...], ...]  # clips × T frame numbers


def plan_clips(
    times: Sequence[int], last_duration: int, *, frames: int, clips: int = 1, stride: int | None = None
) -> ClipPlan:
    """Frame numbers of every clip of a video whose frames are shown at `times` (sorted, at least one).

    `last_duration` is how long the last frame lasts, in ticks; 0 where the packet does not say, and
    the median frame's duration is used. Frames repeat where a segment has fewer than `frames`.
    """
    if is_constant_rate(times):
        return plan_constant_rate(len(times), frames=frames, clips=clips, stride=stride)
    end = times[-1] + (last_duration if last_duration > 0 else median_duration(times))
    if stride is None:
        numbers = [frame_at(times, end, 2 * k + 1, 2 * clips * frames) for k in range(clips * frames)]
        return _cut(numbers, frames)
    middles = [2 * frame_at(times, end, 2 * clip + 1, 2 * clips) + 1 for clip in range(clips)]
    return tuple(_strided(middle, 2, len(times), frames, stride) for middle in middles)


def plan_constant_rate(num_frames: int, *, frames: int, clips: int = 1, stride: int | None = None) -> ClipPlan:
    """Frame numbers of every clip of a video with `num_frames` frames of equal duration."""
    if stride is None:
        parts = clips * frames
        return _cut([(2 * k + 1) * num_frames // (2 * parts) for k in range(parts)], frames)
    return tuple(_strided((2 * clip + 1) * num_frames, 2 * clips, num_frames, frames, stride) for clip in range(clips))


def clip_spans(
    times: Sequence[int], last_duration: int, plan: ClipPlan, stride: int | None = None
) -> tuple[tuple[Fraction, Fraction], ...]:
    """Beginning and length, in ticks, of the part of a video that each clip of its plan stands for.

    That is its segment, or with a stride T·N frame durations around its middle: frame k of T is on screen in the middle
    of the k-th T-th part. Arguments as of `plan_clips`.
    """
    duration = times[-1] - times[0] + (last_duration if last_duration > 0 else median_duration(times))
    if stride is None:
        length = Fraction(duration, len(plan))
        return tuple((times[0] + clip * length, length) for clip in range(len(plan)))
    step = Fraction(duration, len(times))
    length = len(plan[0]) * stride * step
    return tuple(((times[clip[0]] + times[clip[-1]] + step - length) / 2, length) for clip in plan)


def is_constant_rate(times: Sequence[int]) -> bool:
    """Whether sorted times fit `first + i · step` to within one tick, the step drawn through both ends."""
    gaps, span = len(times) - 1, times[-1] - times[0]
    if gaps == 0:
        return True
    if span == 0:
        return False
    return all(abs((time - times[0]) * gaps - i * span) <= gaps for i, time in enumerate(times))


def median_duration(times: Sequence[int]) -> int:
    """The (lower) median of the differences of sorted times, in ticks; 0 for a single frame."""
    return median_low(later - time for time, later in pairwise(times)) if len(times) > 1 else 0


def frame_at(times: Sequence[int], end: int, numerator: int, denominator: int) -> int:
    """Number of the frame on screen when numerator/denominator of the video has passed."""
    # time <= t0 + D·p/q  ⟺  (time - t0)·q <= D·p, and for integers time <= t0 + floor(D·p/q)
    moment = times[0] + (end - times[0]) * numerator // denominator
    return bisect_right(times, moment) - 1


def _strided(
    middle_numerator: int, middle_denominator: int, num_frames: int, frames: int, stride: int
) -> tuple[int, ...]:
    """T frames, every `stride`-th, around middle_numerator/middle_denominator (in frames).

    A window that sticks out of the video is moved inside; in a video shorter than the window, the
    window stays centred and the first and last frames repeat.
    """
    reach = (frames - 1) * stride
    start = (2 * middle_numerator - reach * middle_denominator) // (2 * middle_denominator)
    if reach < num_frames:
        start = min(max(start, 0), num_frames - 1 - reach)
    return tuple(min(max(start + k * stride, 0), num_frames - 1) for k in range(frames))


def _cut(numbers: list[int], frames: int) -> ClipPlan:
    return tuple(tuple(numbers[i : i + frames]) for i in range(0, len(numbers), frames))
