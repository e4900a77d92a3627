"""A picture as a clip of one frame: what image files hold, in the way that a viewer shows it."""

from __future__ import annotations

import warnings
from typing import BinaryIO

import av
import numpy as np
from PIL import Image, ImageOps

from shardify.errors import VideoError
from shardify.video.container import VideoInfo
from shardify.video.decode import DecodedClip, DecodedVideo
from shardify.video.extract import Request

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
MAX_PIXELS = 1 << 28  # of a picture; 16,384×16,384
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def decode_picture(file: BinaryIO, request: Request) -> DecodedVideo:
    """The one clip of an open image file: turned as its EXIF data says, seen over black where it is transparent.

    Raises VideoError with a one-line reason for what is no picture, animated, truncated or too large.
    """
    if request.frames != 1:
        raise VideoError(
            f"is a picture, and clips have {request.frames} frames; it goes with those built with --frames 1"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of damaged EXIF data and the like, which no viewer speaks of
        image = _open(file)
        pixels = _to_rgb(image)
    frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
    maker = request.make_picture
    maker.begin(frame)
    pictures = [maker(frame, None)]
    if again := maker.second_pass([pictures]):
        again.begin(frame)
        maker, pictures = again, [again(frame, None)]
    height, width = pixels.shape[:2]
    info = VideoInfo(
        width=width,
        height=height,
        display_width=width,
        display_height=height,
        num_frames=1,
        fps=0.0,
        duration_seconds=0.0,
        codec=image.format.lower(),
        pixel_format=image.mode,
        rotation_degrees=0,
        mirrored=False,
        hdr="none",
    )
    return DecodedVideo(info, (DecodedClip(maker.finish(0, pictures), (0,), (0.0,), (0.0, 0.0)),), 0, "cpu", 0.0)


def _open(file: BinaryIO) -> Image.Image:
    """The picture with its size checked, decoded. Raises VideoError."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # ours holds, and has one line
    try:
        image = Image.open(file, formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise VideoError(f"too large: {image.width}×{image.height} pixels")
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # a photo that brings its preview or depth: the first is the picture
            raise VideoError(f"holds {frames} pictures; make a video of it, or keep one")
        image.load()
    except VideoError:
        raise
    except Exception as error:  # Pillow raises errors of many kinds for damaged files
        text = " ".join(str(error).split())
        reason = "truncated" if "truncated" in text.lower() else "not a picture, or damaged beyond reading"
        raise VideoError(f"{reason} ({text.partition('<')[0].strip() or type(error).__name__})") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    return image


def _to_rgb(image: Image.Image) -> np.ndarray:
    """uint8 (H, W, 3), turned and mirrored as its EXIF data says. Raises VideoError."""
    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        raise VideoError("holds 32-bit numbers, whose range is not known; convert it to 8 or 16 bits")
    image = ImageOps.exif_transpose(image)
    if image.mode in SIXTEEN_BITS:
        grey = np.asarray(image).astype(np.int64).clip(0, 65_535) >> 8
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA")).astype(np.uint16)
        return ((rgba[..., :3] * rgba[..., 3:] + 127) // 255).astype(np.uint8)
    return np.asarray(image.convert("RGB"))
