"""A clip's payload → pixels, straight into the batch it belongs to; never unpickles."""

from __future__ import annotations

import io

from PIL import Image, JpegImagePlugin, PngImagePlugin
from torch import Tensor

from shardify import sheet
from trainer.errors import FormatError

try:  # decodes straight into the batch, a quarter faster than Pillow; the same pixels
    import simplejpeg
except ImportError:
    simplejpeg = None

# opened without Image.open, which takes large sheets for bombs; nothing is decoded before the size is checked
PICTURES = {"jpeg": JpegImagePlugin.JpegImageFile, "png": PngImagePlugin.PngImageFile}
DAMAGE = (FormatError, ValueError, RuntimeError, OSError)  # what a damaged payload makes the decoders raise


def decode_into(payload: bytes, codec: str, out: Tensor) -> None:
    """Decode a payload into uint8 (rows·S, columns·S, 3) or, raw, (T, S, S, 3).

    Raises ValueError or OSError when it is damaged or of another size.
    """
    if codec == "raw":
        frames = sheet.decode_raw(payload)
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
