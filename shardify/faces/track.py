"""Tracking and smoothing: from the faces found in a clip's frames to the one box that the clip is cut to.

All boxes are (x, y, width, height) in pixels of the picture as shown. One box per clip and no alignment: boxes that
follow the detector from frame to frame would put its jitter into the time axis that a model reads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shardify.errors import VideoError
from shardify.video.resize import Box

LEAST_OVERLAP = 0.3  # intersection over union of one person's boxes in neighbouring frames
LONGEST_GAP = 3  # frames in which a person may be missed
MAX_MISSED = 0.25  # share of a clip's frames without the face from which on there is no box
MAX_CUT = 0.2  # share of a face that the box may leave outside
MAX_WIDENING = 1.5
STEP = 2  # pixels that boxes are rounded to


@dataclass(frozen=True)
class Face:
    """One detection; score: the detector's confidence, 0 to 1."""

    box: Box
    score: float

    @property
    def area(self) -> float:
        return self.box[2] * self.box[3]


@dataclass(frozen=True)
class FaceBox:
    """What a clip is cut to.

    box: whole pixels, inside the picture. faces: people seen in a quarter of the frames or more. score: mean confidence
    of the chosen face. seen: frames that it was found in. widened: whether the smoothed box would have cut it.
    """

    box: Box
    faces: int
    score: float
    seen: int
    widened: bool


@dataclass(frozen=True)
class FaceSettings:
    """margin: added on every side, as a share of the box. least_size: of a face, as a share of the short side."""

    margin: float = 0.3
    least_size: float = 0.05


def face_box(frames: Sequence[Sequence[Face]], shown: tuple[int, int], settings: FaceSettings) -> FaceBox:
    """The box around the main face of a clip.

    frames: the faces in each of its T frames. shown: width and height of the picture.
    Raises VideoError where the face is missing in a quarter of the frames or more.
    """
    least = settings.least_size * min(shown)
    tracks = link_faces([[face for face in faces if max(face.box[2:]) >= least] for faces in frames])
    needed = math.floor(len(frames) * (1 - MAX_MISSED)) + 1
    chosen = max(tracks, key=lambda track: _rank(track, shown), default={})
    if len(chosen) < needed:
        missed = len(frames) - len(chosen)
        raise VideoError(f"no face found in {missed} of {len(frames)} frames; use --boxes, or build without --faces")
    boxes = np.array([face.box for face in chosen.values()])
    box, widened = _smooth(boxes)
    return FaceBox(
        box=_inside(_with_margin(box, settings.margin), shown),
        faces=sum(len(track) >= len(frames) * MAX_MISSED for track in tracks),
        score=float(np.mean([face.score for face in chosen.values()])),
        seen=len(chosen),
        widened=widened,
    )


def link_faces(frames: Sequence[Sequence[Face]]) -> list[dict[int, Face]]:
    """The faces of each person: frame number to face.

    A face belongs to the person whose last box it overlaps most, if by LEAST_OVERLAP and not more than LONGEST_GAP
    frames were missed between.
    """
    tracks: list[dict[int, Face]] = []
    for number, faces in enumerate(frames):
        pairs = [
            (overlap(face.box, track[last].box), -i, -j)
            for i, track in enumerate(tracks)
            if number - (last := max(track)) - 1 <= LONGEST_GAP
            for j, face in enumerate(faces)
        ]
        taken: set[int] = set()
        for share, i, j in sorted(pairs, reverse=True):
            if share >= LEAST_OVERLAP and -j not in taken and number not in tracks[-i]:
                tracks[-i][number] = faces[-j]
                taken.add(-j)
        tracks += [{number: face} for j, face in enumerate(faces) if j not in taken]
    return tracks


def overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    common = max(0.0, width) * max(0.0, height)
    return common / (one[2] * one[3] + other[2] * other[3] - common)


def _rank(track: dict[int, Face], shown: tuple[int, int]) -> tuple[float, float, float]:
    """The main face is large, sure and long to be seen; of equals the one nearer the middle, then the left one."""
    centres = np.array([(f.box[0] + f.box[2] / 2, f.box[1] + f.box[3] / 2) for f in track.values()])
    x, y = centres.mean(axis=0)
    weight = sum(face.area * face.score for face in track.values())
    return weight, -math.hypot(x - shown[0] / 2, y - shown[1] / 2), -x


def _smooth(boxes: np.ndarray) -> tuple[Box, bool]:
    """A square around the median centre, as large as most of the boxes (N, 4); and whether it had to be widened.

    Where it would leave out too much of a face, it grows towards all of them, to 1.5 times its side at most.
    """
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    x, y = np.median(centres, axis=0)
    side = float(np.percentile(boxes[:, 2:].max(axis=1), 75))
    square = (x - side / 2, y - side / 2, side, side)
    if max(1 - _share_inside(box, square) for box in boxes) <= MAX_CUT:
        return square, False
    (left, top), (right, bottom) = boxes[:, :2].min(axis=0), (boxes[:, :2] + boxes[:, 2:]).max(axis=0)
    side = min(max(right - left, bottom - top, side), MAX_WIDENING * side)
    return ((left + right - side) / 2, (top + bottom - side) / 2, side, side), True


def _share_inside(box: np.ndarray, square: Box) -> float:
    width = min(box[0] + box[2], square[0] + square[2]) - max(box[0], square[0])
    height = min(box[1] + box[3], square[1] + square[3]) - max(box[1], square[1])
    return max(0.0, width) * max(0.0, height) / (box[2] * box[3])


def _with_margin(box: Box, margin: float) -> Box:
    x, y, width, height = box
    return x - margin * width, y - margin * height, width * (1 + 2 * margin), height * (1 + 2 * margin)


def _inside(box: Box, shown: tuple[int, int]) -> Box:
    """The box in steps of STEP pixels, shifted into the picture, and cut where it is larger."""
    sides = []
    for start, length, limit in zip(box[:2], box[2:], shown, strict=True):
        length = min(max(STEP, round(length / STEP) * STEP), limit)
        start = min(max(0, round(start / STEP) * STEP), limit - length)
        sides.append((float(start), float(length)))
    (x, width), (y, height) = sides
    return x, y, width, height
