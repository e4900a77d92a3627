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


@dataclass(frozen=True)
class Looked:
    """A wanted frame that was looked at. call: the how manieth it was; frame: None where it was not kept."""

    call: int
    faces: list[Face]  # boxes in pixels of the picture as shown
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
    _boxes: list[FaceBox] = field(default_factory=list)  # of the clips

    def begin(self, frame: av.VideoFrame) -> None:
        """As of PictureMaker. What was kept for another way of decoding is dropped."""
        self.maker.begin(frame)
        self._looker.begin(frame)
        self._kept = 0

    def __call__(self, frame: av.VideoFrame, pixel_aspect: Fraction | None) -> Looked:
        picture = self._looker(frame, pixel_aspect)
        shown = geometry_of(frame, pixel_aspect).shown_size
        self._kept += sum(plane.buffer_size for plane in frame.planes)
        kept = frame if self._kept <= self.max_kept else None
        looked = Looked(self._calls, find_faces(picture, shown, self.detect), shown, kept, pixel_aspect)
        self._calls += 1
        return looked

    def second_pass(self, clips: Sequence[Sequence[Looked]]) -> _Again | None:
        """What makes the pictures where the frames were too large to be kept; None where they were."""
        self._boxes = [face_box([looked.faces for looked in clip], clip[0].shown, self.settings) for clip in clips]
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


def find_faces(picture: np.ndarray, shown: tuple[int, int], detect: Detector) -> list[Face]:
    """The faces in a picture, uint8 (LONG_SIDE, LONG_SIDE, 3) with bars, in pixels of the picture as shown."""
    scale = LONG_SIDE / max(shown)
    width, height = (max(1, round(side * scale)) for side in shown)
    top, left = (LONG_SIDE - height) // 2, (LONG_SIDE - width) // 2
    found = detect(np.ascontiguousarray(picture[top : top + height, left : left + width]))
    across, down = shown[0] / width, shown[1] / height
    return [
        Face((face.box[0] * across, face.box[1] * down, face.box[2] * across, face.box[3] * down), face.score)
        for face in found
    ]


def _cut(found: FaceBox, pictures: list[np.ndarray]) -> Cut:
    return Cut(np.stack(pictures), found.box, found.faces, found.score, found.seen)
