"""Pictures of clips that are cut to faces: frames are looked at as they are decoded, and cut when the box is known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import av
import numpy as np

from shardify.errors import VideoError
from shardify.faces.detector import LONG_SIDE, Detector
from shardify.faces.track import Face, FaceBox, FaceSettings, face_box
from shardify.video.resize import Cut, PictureMaker, geometry_of

MAX_KEPT = 512 << 20  # bytes of decoded frames; above it the video is decoded a second time
BATCH = 64  # pictures that the detector is given at a time

Seen = tuple[np.ndarray, tuple[int, int]]  # uint8 (LONG_SIDE, LONG_SIDE, 3) with bars; width and height as shown


@dataclass(frozen=True)
class Looked:
    """A wanted frame that was looked at. call: the how manieth it was; frame: None where it was not kept."""

    call: int
    shown: tuple[int, int]
    frame: av.VideoFrame | None
    pixel_aspect: Fraction | None


@dataclass
class FacePictures:
    """In place of `maker` in a Request: cuts each clip to the box around its main face.

    Raises VideoError where a clip has no face that is seen through it.
    """

    maker: PictureMaker
    detect: Detector
    settings: FaceSettings = field(default_factory=FaceSettings)
    max_kept: int = MAX_KEPT
    _looker: PictureMaker = field(default_factory=lambda: PictureMaker(LONG_SIDE, "pad"))
    _calls: int = 0
    _kept: int = 0  # bytes
    _pending: dict[int, Seen] = field(default_factory=dict)  # by call
    _faces: dict[int, list[Face]] = field(default_factory=dict)  # by call
    _boxes: list[FaceBox] = field(default_factory=list)  # of the clips

    def begin(self, frame: av.VideoFrame) -> None:
        """As of PictureMaker. What was kept for another way of decoding is dropped."""
        self.maker.begin(frame)
        self._looker.begin(frame)
        self._kept = 0
        self._pending.clear()
        self._faces.clear()

    def __call__(self, frame: av.VideoFrame, pixel_aspect: Fraction | None) -> Looked:
        picture = self._looker(frame, pixel_aspect)
        shown = geometry_of(frame, pixel_aspect).shown_size
        self._kept += sum(plane.buffer_size for plane in frame.planes)
        kept = frame if self._kept <= self.max_kept else None
        looked = Looked(self._calls, shown, kept, pixel_aspect)
        self._pending[looked.call] = picture, shown
        if len(self._pending) == BATCH:
            self._detect()
        self._calls += 1
        return looked

    def _detect(self) -> None:
        found = find_faces(list(self._pending.values()), self.detect)
        self._faces.update(zip(self._pending, found, strict=True))
        self._pending.clear()

    def second_pass(self, clips: Sequence[Sequence[Looked]]) -> _Again | None:
        """What makes the pictures where the frames were too large to be kept; None where they were."""
        self._detect()
        self._boxes = [
            face_box([self._faces[looked.call] for looked in clip], clip[0].shown, self.settings) for clip in clips
        ]
        if all(looked.frame is not None for clip in clips for looked in clip):
            return None
        clips_of: dict[int, set[int]] = defaultdict(set)
        for number, clip in enumerate(clips):
            for looked in clip:
                clips_of[looked.call].add(number)
        return _Again(self.maker, self._boxes, clips_of)

    def finish(self, number: int, clip: Sequence[Looked]) -> Cut:
        """The pictures of a clip, of which `number` is its own."""
        cut = replace(self.maker, box=self._boxes[number].box)
        return _cut(self._boxes[number], [cut(looked.frame, looked.pixel_aspect) for looked in clip])


@dataclass
class _Again:
    """The second pass: decoding is the same, so a frame is known by the how manieth it is."""

    maker: PictureMaker
    boxes: list[FaceBox]
    clips_of: dict[int, set[int]]  # by call
    _calls: int = 0
    _makers: list[PictureMaker] = field(default_factory=list)  # of the clips

    def begin(self, frame: av.VideoFrame) -> None:
        self.maker.begin(frame)
        self._makers = [replace(self.maker, box=found.box) for found in self.boxes]

    def __call__(self, frame: av.VideoFrame, pixel_aspect: Fraction | None) -> dict[int, np.ndarray]:
        """The picture of each clip that has the frame, by the clip's number."""
        clips = self.clips_of.get(self._calls, ())
        self._calls += 1
        return {clip: self._makers[clip](frame, pixel_aspect) for clip in clips}

    def second_pass(self, clips: object) -> None:
        """There is no third one."""

    def finish(self, number: int, clip: Sequence[dict[int, np.ndarray]]) -> Cut:
        try:
            return _cut(self.boxes[number], [pictures[number] for pictures in clip])
        except (KeyError, IndexError) as error:
            raise VideoError("gives different frames each time it is decoded") from error


def find_faces(seen: Sequence[Seen], detect: Detector) -> list[list[Face]]:
    """The faces in each picture, in pixels of the picture as shown."""
    parts, scales = [], []
    for picture, shown in seen:
        scale = LONG_SIDE / max(shown)
        width, height = (max(1, round(side * scale)) for side in shown)
        top, left = (LONG_SIDE - height) // 2, (LONG_SIDE - width) // 2
        parts.append(np.ascontiguousarray(picture[top : top + height, left : left + width]))
        scales.append((shown[0] / width, shown[1] / height) * 2)
    return [
        [Face(tuple(np.multiply(face.box, scale).tolist()), face.score) for face in faces]
        for faces, scale in zip(detect(parts), scales, strict=True)
    ]


def _cut(found: FaceBox, pictures: list[np.ndarray]) -> Cut:
    return Cut(np.stack(pictures), found.box, found.faces, found.score, found.seen)
