"""The frames of a clip as a member of a sample: one JPEG contact sheet, or a raw array.

A sheet lays T frames of S×S pixels row by row in ceil(sqrt(T)) columns; unused cells are black. A cell's sides are S
rounded up to a multiple of 8, the padding repeats the frame's edge. With chroma 4:4:4 every frame then owns whole JPEG
blocks, so a frame cut out of the decoded sheet has the very pixels that compressing its cell alone would have given.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin

from shardify.format.members.array import decode_array_into, encode_array
from shardify.format.members.base import Member, is_whole

if TYPE_CHECKING:
    from shardify.format.members.base import Pixels
    from shardify.format.settings import BuildSettings

BLOCK = 8  # sides of a JPEG block, pixels
EXTENSIONS = {"jpeg": "jpg", "raw": "npy", "png": "png"}  # codec → extension; no build writes png
MAX_FRAMES, MAX_SIZE = 256, 4096

try:  # decodes straight into the batch, a quarter faster than Pillow; the same pixels
    import simplejpeg
except ImportError:
    simplejpeg = None
# opened without Image.open, which takes large sheets for bombs; nothing is decoded before the size is checked
PICTURES = {"jpeg": JpegImagePlugin.JpegImageFile, "png": PngImagePlugin.PngImageFile}


@dataclass(frozen=True, kw_only=True)
class Frames(Member):
    """T frames, uint8 (T, S, S, 3) RGB."""

    kind: ClassVar[str] = "frames"
    name: str = "frames"
    codec: str  # jpeg | raw
    frames: int  # T
    size: int  # S, pixels
    cell: int  # sides of a sheet's cell, pixels; S for raw
    quality: int = 95  # JPEG quality
    fit: str = "stretch"  # how a picture that is not square became S×S

    def __post_init__(self) -> None:
        self._check(isinstance(self.codec, str) and self.codec in EXTENSIONS, "codec", " | ".join(EXTENSIONS))
        self._check(is_whole(self.frames, 1, MAX_FRAMES), "frames", f"1 to {MAX_FRAMES}")
        self._check(is_whole(self.size, 1, MAX_SIZE), "size", f"1 to {MAX_SIZE}")
        self._check(is_whole(self.cell, self.size, self.size + BLOCK - 1), "cell", "the size, rounded up")

    @classmethod
    def of(cls, settings: BuildSettings) -> Frames:
        """What a build with these settings writes."""
        size = settings.size
        return cls(
            codec=settings.codec,
            frames=settings.frames,
            size=size,
            cell=size if settings.codec == "raw" else math.ceil(size / BLOCK) * BLOCK,
            quality=settings.quality,
            fit=settings.fit,
        )

    @property
    def extension(self) -> str:
        return EXTENSIONS[self.codec]

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.frames, self.size, self.size, 3

    @property
    def stored_shape(self) -> tuple[int, ...]:
        rows, columns = grid_shape(self.frames)
        return self.shape if self.codec == "raw" else (rows * self.cell, columns * self.cell, 3)

    def encode(self, values: np.ndarray) -> bytes:
        if self.codec == "raw":
            return encode_array(values)
        buffer = io.BytesIO()
        sheet = Image.fromarray(to_sheet(values, self.cell))
        sheet.save(buffer, "JPEG", quality=self.quality, subsampling=0)
        return buffer.getvalue()

    def decode_into(self, payload: bytes, out: Pixels) -> None:
        if self.codec == "raw":
            decode_array_into(payload, out)
            return
        pixels = np.asarray(out)
        if self.codec == "jpeg" and simplejpeg is not None:
            _check_size(*simplejpeg.decode_jpeg_header(payload)[:2], pixels)
            simplejpeg.decode_jpeg(payload, "RGB", buffer=pixels)
            return
        try:
            with open_picture(payload, self.codec) as picture:
                _check_size(picture.height, picture.width, pixels)
                pixels[...] = picture.convert("RGB")
        except Exception as error:  # Pillow raises errors of many kinds
            raise ValueError(str(error)) from error

    def unpack(self, stored: Pixels, copy: Callable[[Pixels], Pixels]) -> Pixels:
        if self.codec == "raw":
            return copy(stored)
        cells = copy(cut(stored, self.frames, self.size))
        return cells.reshape(len(stored), -1, self.size, self.size, 3)[:, : self.frames]

    def arrange(self, values: Pixels) -> Pixels:
        """(B, T, S, S, 3) as (B, T, 3, S, S)."""
        return values.swapaxes(3, 4).swapaxes(2, 3)

    def picture(self, values: np.ndarray) -> np.ndarray:
        return np.concatenate(list(values), axis=1)


def grid_shape(num_frames: int) -> tuple[int, int]:
    """(rows, columns) of the sheet that holds `num_frames` frames."""
    columns = math.ceil(math.sqrt(num_frames))
    return math.ceil(num_frames / columns), columns


def to_sheet(frames: np.ndarray, cell: int | None = None) -> np.ndarray:
    """Frames, uint8 (T, S, S, 3), as a contact sheet, uint8 (rows·C, columns·C, 3); cell: C, None: S."""
    num_frames, size = frames.shape[:2]
    cell = cell or size
    rows, columns = grid_shape(num_frames)
    cells = np.zeros((rows * columns, cell, cell, 3), np.uint8)
    padding = (0, cell - size)
    cells[:num_frames] = np.pad(frames, ((0, 0), padding, padding, (0, 0)), mode="edge")
    return cells.reshape(rows, columns, cell, cell, 3).swapaxes(1, 2).reshape(rows * cell, columns * cell, 3)


def cut(sheets: Pixels, num_frames: int, size: int) -> Pixels:
    """Contact sheets (B, rows·C, columns·C, 3) as a view of their frames, (B, rows, columns, S, S, 3)."""
    rows, columns = grid_shape(num_frames)
    cell = sheets.shape[1] // rows
    cells = sheets.reshape(len(sheets), rows, cell, columns, cell, 3).swapaxes(2, 3)
    return cells[:, :, :, :size, :size]


def from_sheet(sheet: Pixels, num_frames: int, size: int | None = None) -> Pixels:
    """A contact sheet, uint8 (rows·C, columns·C, 3), as frames, uint8 (T, S, S, 3); size: S, None: C."""
    size = size or sheet.shape[0] // grid_shape(num_frames)[0]
    return cut(sheet[None], num_frames, size).reshape(-1, size, size, 3)[:num_frames]


def open_picture(payload: bytes, codec: str) -> Image.Image:
    """A picture whose header alone is read. Raises errors of many kinds."""
    return PICTURES[codec](io.BytesIO(payload))


def _check_size(height: int, width: int, pixels: np.ndarray) -> None:
    if (height, width) != pixels.shape[:2]:
        raise ValueError(f"is {height}×{width} pixels, not {pixels.shape[0]}×{pixels.shape[1]}")
