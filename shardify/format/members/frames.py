"""The frames of a clip as a member of a sample: one JPEG contact sheet, or a raw array.

A sheet lays T frames of S×S pixels row by row in ceil(sqrt(T)) columns; unused cells are black. With S a
multiple of 8 and chroma 4:4:4 every frame owns whole JPEG blocks, so a frame cut out of the decoded sheet has
the very pixels that compressing it alone would have given.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin

from shardify.errors import FormatError

if TYPE_CHECKING:
    from torch import Tensor


MAX_PIXELS = (16 * 1024) ** 2  # 256 frames of 1024×1024

try:  # decodes straight into the batch, a quarter faster than Pillow; the same pixels
    import simplejpeg
except ImportError:
    simplejpeg = None
# opened without Image.open, which takes large sheets for bombs; nothing is decoded before the size is checked
PICTURES = {"jpeg": JpegImagePlugin.JpegImageFile, "png": PngImagePlugin.PngImageFile}
DAMAGE = (FormatError, ValueError, RuntimeError, OSError)  # what a damaged payload makes the decoders raise


def grid_shape(num_frames: int) -> tuple[int, int]:
    """(rows, columns) of the sheet that holds `num_frames` frames."""
    columns = math.ceil(math.sqrt(num_frames))
    return math.ceil(num_frames / columns), columns


def to_sheet(frames: np.ndarray) -> np.ndarray:
    """uint8 (T, S, S, 3) → uint8 (rows·S, columns·S, 3)."""
    num_frames, size = frames.shape[:2]
    rows, columns = grid_shape(num_frames)
    cells = np.zeros((rows * columns, size, size, 3), np.uint8)
    cells[:num_frames] = frames
    return cells.reshape(rows, columns, size, size, 3).swapaxes(1, 2).reshape(rows * size, columns * size, 3)


def from_sheet(sheet: np.ndarray, num_frames: int) -> np.ndarray:
    """uint8 (rows·S, columns·S, 3) → uint8 (T, S, S, 3)."""
    rows, columns = grid_shape(num_frames)
    size = sheet.shape[0] // rows
    cells = sheet.reshape(rows, size, columns, size, 3).swapaxes(1, 2)
    return cells.reshape(rows * columns, size, size, 3)[:num_frames]


def encode_jpeg(sheet: np.ndarray, quality: int) -> bytes:
    """uint8 (H, W, 3) RGB → JPEG bytes, chroma 4:4:4; the same bytes for the same pixels."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def decode_jpeg(payload: bytes) -> np.ndarray:
    """JPEG bytes → uint8 (H, W, 3) RGB. Raises ValueError above MAX_PIXELS, and whatever Pillow raises for damage."""
    from PIL.JpegImagePlugin import JpegImageFile

    with JpegImageFile(io.BytesIO(payload)) as image:  # not Image.open: its limit is below the largest sheet
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width}×{image.height} pixels are no sheet")
        return np.asarray(image.convert("RGB"))


def encode_raw(frames: np.ndarray) -> bytes:
    """uint8 (T, S, S, 3) → the bytes of a .npy file, version 1.0, C order, no pickle."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(frames), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def decode_raw(payload: bytes) -> np.ndarray:
    """The bytes of a .npy file → a read-only view of its uint8 array; never unpickles.

    Raises ValueError for anything that `encode_raw` would not have written.
    """
    shape, offset = raw_shape(payload)
    if math.prod(shape) != len(payload) - offset:
        raise ValueError(f"holds {len(payload) - offset} bytes of pixels, its header says {shape}")
    return np.frombuffer(payload, np.uint8, offset=offset).reshape(shape)


def raw_shape(head: bytes) -> tuple[tuple[int, ...], int]:
    """The shape that a .npy file's first bytes promise, and how many bytes come before the pixels.

    Raises ValueError as `decode_raw` does.
    """
    header = io.BytesIO(head)
    try:
        if (version := np.lib.format.read_magic(header)) != (1, 0):
            raise ValueError(f"version {version}, not (1, 0)")
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(header)
    except Exception as error:  # a damaged header makes NumPy raise from ValueError to tokenize.TokenError
        raise ValueError(f"is no .npy file that is read here ({' '.join(str(error).split())[:100]})") from error
    if fortran_order or dtype != np.uint8:
        raise ValueError(f"holds {dtype} in {'Fortran' if fortran_order else 'C'} order, not uint8 in C order")
    if not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"has the shape {shape}")
    return shape, header.tell()


def decode_into(payload: bytes, codec: str, out: Tensor) -> None:
    """Decode a payload into uint8 (rows·S, columns·S, 3) or, raw, (T, S, S, 3).

    Raises ValueError or OSError when it is damaged or of another size.
    """
    if codec == "raw":
        frames = decode_raw(payload)
        if frames.shape != tuple(out.shape):
            raise ValueError(f"holds {frames.shape}, not {tuple(out.shape)}")
        out.numpy()[...] = frames
        return
    if codec == "jpeg" and simplejpeg is not None:
        check_size(*simplejpeg.decode_jpeg_header(payload)[:2], out)
        simplejpeg.decode_jpeg(payload, "RGB", buffer=out.numpy())
        return
    try:
        with open_picture(payload, codec) as picture:
            check_size(picture.height, picture.width, out)
            out.numpy()[...] = picture.convert("RGB")
    except Exception as error:  # Pillow raises errors of many kinds
        raise ValueError(str(error)) from error


def open_picture(payload: bytes, codec: str) -> Image.Image:
    """A picture whose header alone is read. Raises errors of many kinds."""
    return PICTURES[codec](io.BytesIO(payload))


def check_size(height: int, width: int, out: Tensor) -> None:
    if (height, width) != tuple(out.shape[:2]):
        raise ValueError(f"is {height}×{width} pixels, not {out.shape[0]}×{out.shape[1]}")
