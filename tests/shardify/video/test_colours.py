"""Right colours by the standards' own formulas, with no other program's help."""

import io
from fractions import Fraction
from itertools import product

import av
import numpy as np
import pytest
from media import BRIGHT
from PIL import Image

from shardify.video.decode import decode_video
from shardify.video.resize import PictureMaker

SIZE = 32
# AVCOL_SPC number: weights of red and blue in luma (ITU-T H.273, table 4)
WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}
STANDARD, FULL = 1, 2  # AVCOL_RANGE
SILENT = (0, 2, 3, 8, 12, 14)  # unspecified, reserved, or what swscale cannot convert


def yuv_frame(pixel_format, bits, width=SIZE, height=SIZE, seed=0):
    """Random flat blocks of 8 × 8 pixels with sound values, as levels (3, height, width) and as a frame."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(70, 180, (3, height // 8, width // 8)) << (bits - 8)
    levels = np.repeat(np.repeat(blocks, 8, axis=1), 8, axis=2)
    frame = av.VideoFrame(width, height, pixel_format)
    for plane, values in zip(frame.planes, levels, strict=False):
        padded = np.zeros((height, plane.line_size), np.uint8)
        data = values.astype("<u2" if bits > 8 else np.uint8).view(np.uint8).reshape(height, -1)
        padded[:, : data.shape[1]] = data
        plane.update(padded.tobytes())
    return levels, frame


def formula(levels, bits, weights, colour_range):
    """RGB (height, width, 3) of YUV levels, as floats from 0 to 255."""
    y, u, v = (plane / 2 ** (bits - 8) for plane in levels.astype(float))
    if colour_range == STANDARD:
        y, u, v = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    else:
        y, u, v = y / 255, (u - 128) / 255, (v - 128) / 255
    red, blue = weights
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    g = (y - red * r - blue * b) / (1 - red - blue)
    return (np.stack([r, g, b], axis=-1) * 255).clip(0, 255)


def middles(picture):
    """The middle pixel of every block, where neighbours do not show."""
    return np.asarray(picture, float)[4::8, 4::8]


@pytest.mark.parametrize(("pixel_format", "bits"), [("yuv444p", 8), ("yuv444p10le", 10), ("yuv444p12le", 12)])
def test_matrix_and_range(pixel_format, bits):
    make = PictureMaker(SIZE)  # one for all: it must notice when frames change
    for seed, (matrix, colour_range) in enumerate(product(WEIGHTS, (STANDARD, FULL))):
        levels, frame = yuv_frame(pixel_format, bits, seed=seed)
        frame.colorspace, frame.color_range = matrix, colour_range
        expected = formula(levels, bits, WEIGHTS[matrix], colour_range)
        make.begin(frame)
        assert np.abs(middles(make(frame, None)) - middles(expected)).max() <= 1.5, (matrix, colour_range)


@pytest.mark.parametrize("matrix", SILENT)
@pytest.mark.parametrize(
    ("width", "height", "weights"), [(64, 64, 6), (1272, 576, 6), (1280, 16, 1), (16, 584, 1), (1280, 720, 1)]
)
def test_without_a_matrix_the_size_decides(matrix, width, height, weights):
    levels, frame = yuv_frame("yuv444p", 8, width, height)
    frame.colorspace = matrix
    make = PictureMaker(SIZE, box=(0, 0, SIZE, SIZE) if min(width, height) >= SIZE else (0, 0, 16, 16))
    side = min(width, height, SIZE)
    expected = formula(levels, 8, WEIGHTS[weights], STANDARD)[:side, :side]
    picture = make(frame, None)[SIZE // side // 2 :: SIZE // side, SIZE // side // 2 :: SIZE // side]
    assert np.abs(middles(picture) - middles(expected)).max() <= 6


@pytest.mark.parametrize("colour_range", [STANDARD, FULL])
def test_grey_is_full_range_whatever_it_says(colour_range):
    """As in the ffmpeg program."""
    levels, frame = yuv_frame("gray", 8)
    frame.color_range = colour_range
    flat = np.stack([levels[0], np.full_like(levels[0], 128), np.full_like(levels[0], 128)])
    expected = formula(flat, 8, WEIGHTS[6], FULL)
    assert np.abs(middles(PictureMaker(SIZE)(frame, None)) - middles(expected)).max() <= 1.5


def test_one_maker_takes_frames_of_every_kind():
    """Sizes, formats, and the part that is used may change from frame to frame."""
    make = PictureMaker(SIZE)
    for pixel_format, bits, side in (
        ("yuv444p", 8, 32),
        ("yuv444p", 8, 64),
        ("yuv444p10le", 10, 64),
        ("yuv444p", 8, 32),
    ):
        _, frame = yuv_frame(pixel_format, bits, side, side, seed=bits + side)
        frame.colorspace = 1
        assert np.array_equal(make(frame, None), PictureMaker(SIZE)(frame, None))


@pytest.mark.parametrize("attribute", ["color_primaries", "color_trc"])
@pytest.mark.parametrize("value", [0, 3, 23])
def test_reserved_primaries_and_transfers_do_not_matter(attribute, value):
    _, frame = yuv_frame("yuv444p", 8)
    expected = PictureMaker(SIZE)(frame, None)
    setattr(frame, attribute, value)
    assert np.array_equal(PictureMaker(SIZE)(frame, None), expected)


@pytest.mark.parametrize(("orientation", "rotation", "mirrored"), [(1, 0, False), (6, 90, False), (8, 270, False)])
def test_pictures_with_exif_data(tmp_path, orientation, rotation, mirrored):
    """Side data that PyAV has no name for; Exif's own orientation is applied."""
    image, exif, data = Image.new("RGB", (64, 32), (BRIGHT, 0, 0)), Image.Exif(), io.BytesIO()
    image.paste((0, 0, BRIGHT), (0, 0, 16, 16))  # top left
    exif[274] = orientation
    image.save(data, "jpeg", exif=exif, quality=95)
    path = tmp_path / "a.avi"
    with av.open(path, "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuvj420p"
        for i in range(3):
            packet = av.Packet(data.getvalue())
            packet.pts = packet.dts = i
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 25), True
            container.mux(packet)
    decoded = decode_video(path, frames=1, size=64)
    assert (decoded.info.rotation_degrees, decoded.info.mirrored) == (rotation, mirrored)
    corners = {0: (0, 0), 90: (0, 1), 270: (1, 0)}[rotation]  # where the coded top left is shown
    picture = decoded.clips[0].frames[0][8::48, 8::48]
    assert [tuple(at) for at in np.argwhere(picture[..., 2] > picture[..., 0])] == [corners]
