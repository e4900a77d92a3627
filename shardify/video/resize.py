"""Conversion of a decoded picture to an S×S RGB array: colour, orientation, pixel shape, crop, scaling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

from shardify.errors import VideoError

# Antialiased bicubic; the other flags make swscale's result the same on every processor.
SCALING = "bicubic+accurate_rnd+bitexact+full_chroma_int+full_chroma_inp"
# Some streams mark these "reserved", which swscale refuses; neither takes part in the conversion.
NEUTRAL = "color_primaries=unknown:color_trc=unknown"
# AVCOL_SPC numbers, and libav's names of the matrices; 10, BT.2020 of constant luminance, is taken for the common one.
MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "smpte170m", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
Box = tuple[float, float, float, float]  # x, y, width, height


@dataclass(frozen=True)
class Geometry:
    """How a coded picture of `width` × `height` pixels is shown: stretched, then turned, then mirrored."""

    width: int
    height: int
    pixel_aspect: Fraction  # width of a pixel over its height
    rotation_degrees: int  # clockwise: 0, 90, 180, 270
    mirrored: bool

    @property
    def sideways(self) -> bool:
        return self.rotation_degrees in (90, 270)

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height as a player shows them."""
        width = max(1, round(self.width * self.pixel_aspect))
        return (self.height, width) if self.sideways else (width, self.height)

    def coded_box(self, box: Box) -> Box:
        """A box of the shown picture, in pixels of the coded one."""
        x, y, width, height = box
        shown_width, shown_height = self.shown_size
        if self.mirrored:
            x = shown_width - x - width
        if self.rotation_degrees == 90:
            x, y, width, height = y, shown_width - x - width, height, width
        elif self.rotation_degrees == 180:
            x, y = shown_width - x - width, shown_height - y - height
        elif self.rotation_degrees == 270:
            x, y, width, height = shown_height - y - height, x, height, width
        stretch = (shown_height if self.sideways else shown_width) / self.width
        return x / stretch, y, width / stretch, height


def geometry_of(frame: av.VideoFrame, pixel_aspect: Fraction | None) -> Geometry:
    """The geometry of a decoded frame; angles between quarter turns go to the nearest."""
    rotation, mirrored = 0, False
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV knows no name for some other side data of this frame (EXIF, views)
        matrix, rotation = None, round(-frame.rotation / 90) * 90 % 360
    if matrix is not None:
        a, b, _, c, d = (int(value) for value in np.frombuffer(matrix, np.int32)[:5])
        mirrored = a * d - b * c < 0
        rotation = round(math.degrees(math.atan2(b, -a if mirrored else a)) / 90) * 90 % 360
    return Geometry(frame.width, frame.height, pixel_aspect or Fraction(1), rotation, mirrored)


def fit_box(fit: str, box: Box, size: int) -> tuple[Box, tuple[int, int]]:
    """The part of `box` that is used, and the width and height that it is scaled to within size × size."""
    x, y, width, height = box
    if fit == "crop":
        side = min(width, height)
        return (x + (width - side) / 2, y + (height - side) / 2, side, side), (size, size)
    if fit == "pad":
        longest = max(width, height)
        return box, (max(1, round(size * width / longest)), max(1, round(size * height / longest)))
    return box, (size, size)


def clamp_box(box: Box | None, width: int, height: int) -> Box:
    """`box` cut to a picture of width × height, at least one pixel of it; the whole picture for None.

    Raises VideoError where nothing of it lies inside.
    """
    if box is None:
        return 0.0, 0.0, float(width), float(height)
    if box[0] >= width or box[1] >= height or box[0] + box[2] <= 0 or box[1] + box[3] <= 0:
        raise VideoError("its box lies outside the picture")
    left, top = min(max(box[0], 0), width - 1), min(max(box[1], 0), height - 1)
    right, bottom = min(max(box[0] + box[2], left + 1), width), min(max(box[1] + box[3], top + 1), height)
    return float(left), float(top), float(right - left), float(bottom - top)


@dataclass(frozen=True)
class Cut:
    """The pictures of a clip, uint8 (T, S, S, 3) RGB, and what they were cut to.

    box: in pixels of the picture as shown. faces: how many people were found. face_score, face_frames: how sure the
    chosen face is, and in how many frames it was found.
    """

    frames: np.ndarray
    box: Box
    faces: int = 0
    face_score: float = 0.0
    face_frames: int = 0


@dataclass
class PictureMaker:
    """Makes S×S RGB pictures of one video's decoded frames; keeps its filter graph while frames stay alike.

    fit: "stretch", "crop" or "pad". box: (x, y, width, height) in pixels of the picture as shown (turned, pixels made
    square), to which it is cut. used_box: the one that the first picture was cut to, None before it.
    """

    size: int = 128
    fit: str = "stretch"
    box: Box | None = None
    used_box: Box | None = None
    _matrix: str | None = None
    _graph_key: tuple | None = None
    _graph: av.filter.Graph | None = None

    def begin(self, frame: av.VideoFrame) -> None:
        """Take the colour matrix of all pictures from the video's first one, so that colours never change between."""
        self._matrix = _matrix(frame)

    def __call__(self, frame: av.VideoFrame, pixel_aspect: Fraction | None) -> np.ndarray:
        """A picture, uint8 (S, S, 3) RGB. Raises VideoError where the box lies outside it."""
        self._matrix = self._matrix or _matrix(frame)
        geometry = geometry_of(frame, pixel_aspect)
        box = clamp_box(self.box, *geometry.shown_size)
        self.used_box = self.used_box or box
        box, (width, height) = fit_box(self.fit, box, self.size)
        if any(component.is_alpha for component in frame.format.components):
            rgba = self._filter(frame, (0, 0, frame.width, frame.height), frame.width, frame.height, "rgba")
            frame = _over_black(rgba)
        if geometry.sideways:
            width, height = height, width
        picture = self._filter(frame, _whole_box(frame, geometry.coded_box(box)), width, height, "rgb24")
        picture = np.rot90(picture, -geometry.rotation_degrees // 90)
        if geometry.mirrored:
            picture = picture[:, ::-1]
        return _pad(picture, self.size)

    def second_pass(self, clips: object) -> None:
        """None is needed: the pictures are made as the frames come."""

    def finish(self, number: int, clip: Sequence[np.ndarray]) -> Cut:
        """The pictures of one clip, of which `number` is its own."""
        return Cut(np.stack(clip), self.used_box)

    def _filter(
        self, frame: av.VideoFrame, box: tuple[int, int, int, int], width: int, height: int, pixel_format: str
    ) -> np.ndarray:
        kind = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        key = (*kind, box, width, height, pixel_format)
        if key != self._graph_key:
            matrix = None if frame.format.is_rgb else self._matrix
            self._graph_key, self._graph = key, _graph(frame, box, width, height, pixel_format, matrix)
        self._graph.push(frame)
        return self._graph.pull().to_ndarray()


def _graph(
    frame: av.VideoFrame,
    box: tuple[int, int, int, int],
    width: int,
    height: int,
    pixel_format: str,
    matrix: str | None,
) -> av.filter.Graph:
    """Frames like `frame` in; out comes their part `box` (x, y, width, height) at another size and format."""
    graph = av.filter.Graph()
    graph.threads = 1
    nodes = [graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000))]
    if box != (0, 0, frame.width, frame.height):
        nodes.append(graph.add("crop", "exact=1:x={}:y={}:w={}:h={}".format(*box)))
    scaling = f"w={width}:h={height}:flags={SCALING}"
    if matrix:
        scaling += f":in_color_matrix={matrix}"
    nodes += [
        graph.add("setparams", NEUTRAL),
        graph.add("scale", scaling),
        graph.add("format", pixel_format),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*nodes).configure()
    return graph


def _matrix(frame: av.VideoFrame) -> str | None:
    """How its YUV becomes RGB; where the stream does not say it, as in players: HD is BT.709, the rest BT.601."""
    if frame.format.is_rgb:
        return None
    return MATRICES.get(frame.colorspace) or ("bt709" if frame.width >= 1280 or frame.height > 576 else "bt601")


def _whole_box(frame: av.VideoFrame, box: Box) -> tuple[int, int, int, int]:
    """`box` in whole pixels, starting where a chroma sample starts."""
    step_x = 16 // (frame.format.chroma_width(16) or 16)
    step_y = 16 // (frame.format.chroma_height(16) or 16)
    x = min(round(box[0] / step_x) * step_x, (frame.width - 1) // step_x * step_x)
    y = min(round(box[1] / step_y) * step_y, (frame.height - 1) // step_y * step_y)
    width = min(max(1, round(box[0] + box[2]) - x), frame.width - x)
    height = min(max(1, round(box[1] + box[3]) - y), frame.height - y)
    return x, y, width, height


def _over_black(rgba: np.ndarray) -> av.VideoFrame:
    """A frame of RGB from uint8 (H, W, 4), seen over black."""
    rgba = rgba.astype(np.uint16)
    over = (rgba[..., :3] * rgba[..., 3:] + 127) // 255
    return av.VideoFrame.from_ndarray(over.astype(np.uint8), "rgb24")


def _pad(picture: np.ndarray, size: int) -> np.ndarray:
    height, width = picture.shape[:2]
    if (height, width) == (size, size):
        return np.ascontiguousarray(picture)
    padded = np.zeros((size, size, 3), np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    padded[top : top + height, left : left + width] = picture
    return padded
