"""Right pictures: against the ffmpeg program's own frames, Pillow, and pictures whose parts are known."""

import shutil
import subprocess
from fractions import Fraction

import av
import numpy as np
import pytest
from media import numbered_picture, read_number, write_video
from PIL import Image

from shardify.errors import VideoError
from shardify.video.decode import decode_video
from shardify.video.resize import SCALING, Geometry, clamp_box, fit_box

needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs the ffmpeg program")
COLOURS = np.array([[(220, 30, 30), (30, 200, 30)], [(40, 40, 220), (230, 220, 40)]], np.uint8)


def natural_picture(width, height, seed=0):
    """Smooth shapes, edges and a little texture: uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3))
    for size, strength in ((3, 90), (9, 50), (40, 20)):
        coarse = rng.uniform(-1, 1, (size, size, 3)) * 127 + 128
        image = Image.fromarray(coarse.astype(np.uint8)).resize((width, height), Image.BICUBIC)
        picture += (np.asarray(image, float) - 128) / 128 * strength
    return (picture + 128).clip(0, 255).astype(np.uint8)


def picture_of(path, **options):
    return decode_video(path, frames=1, **{"size": 64} | options).clips[0].frames[0]


def ffmpeg_picture(path, size=64, extra="", turned=True):
    """What the ffmpeg program makes of the first frame, scaled with the same filter."""
    command = ["ffmpeg", "-v", "error", "-nostdin", *(() if turned else ("-noautorotate",)), "-i", path]
    command += ["-vf", f"scale={size}:{size}:flags={SCALING}{extra}", "-frames:v", "1"]
    result = subprocess.run([*command, "-pix_fmt", "rgb24", "-f", "rawvideo", "-"], check=True, capture_output=True)
    return np.frombuffer(result.stdout, np.uint8).reshape(size, size, 3)


def assert_same_picture(ours, theirs, mean=1.0, largest=4):
    difference = np.abs(ours.astype(int) - theirs)
    assert difference.mean() <= mean
    assert difference.max() <= largest


FORMATS = [
    ("yuv420p", "ffv1"),
    ("yuv422p", "ffv1"),
    ("yuv444p", "ffv1"),
    ("yuv411p", "ffv1"),
    ("yuv420p10le", "ffv1"),
    ("yuv422p10le", "ffv1"),
    ("yuv444p12le", "ffv1"),
    ("gray", "ffv1"),
    ("gray16le", "ffv1"),
    ("bgr0", "ffv1"),
    ("gbrp10le", "ffv1"),
    ("yuvj420p", "mjpeg"),
    ("yuvj422p", "mjpeg"),
    ("rgb24", "qtrle"),
]


@needs_ffmpeg
@pytest.mark.parametrize(("pixel_format", "codec"), FORMATS, ids=[name for name, _ in FORMATS])
def test_pixel_formats_as_the_ffmpeg_program(tmp_path, pixel_format, codec):
    name = "a.mov" if codec == "qtrle" else "a.mkv"
    path = write_video(tmp_path / name, [natural_picture(161, 119)], codec=codec, pixel_format=pixel_format)
    assert_same_picture(picture_of(path), ffmpeg_picture(path))


# AVCOL_SPC and AVCOL_RANGE numbers
@needs_ffmpeg
@pytest.mark.parametrize(("matrix", "colour_range"), [(1, 1), (4, 1), (5, 1), (6, 1), (7, 1), (9, 1), (1, 2), (5, 2)])
def test_matrix_and_range_as_the_stream_says(tmp_path, matrix, colour_range):
    def tag(frame):
        frame.colorspace, frame.color_range = matrix, colour_range
        return frame

    context = {"colorspace": matrix, "color_range": colour_range}
    pictures = [natural_picture(160, 120)]
    path = write_video(tmp_path / "a.mp4", pictures, options={"qp": "1"}, context=context, prepare=tag)
    with av.open(path) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_range) == (matrix, colour_range)
    assert_same_picture(picture_of(path), ffmpeg_picture(path))


@needs_ffmpeg
@pytest.mark.parametrize(("size", "matrix"), [((720, 576), "bt601"), ((1280, 720), "bt709"), ((720, 1280), "bt709")])
def test_without_a_matrix_the_size_decides(tmp_path, size, matrix):
    path = write_video(tmp_path / "a.mkv", [natural_picture(*size)], codec="ffv1")
    assert_same_picture(picture_of(path), ffmpeg_picture(path, extra=f":in_color_matrix={matrix}"))


@needs_ffmpeg
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 1), (1, 5), (17, 5), (33, 240), (500, 3), (1920, 1080)])
def test_sizes_as_the_ffmpeg_program(tmp_path, size):
    path = write_video(tmp_path / "a.nut", [natural_picture(*size)], codec="rawvideo", pixel_format="yuv444p")
    # Not at 64: older ffmpeg programs scale by more than 60 in two steps and lose the matrix.
    extra = ":in_color_matrix=bt709" if size[0] > 1000 else ""
    assert_same_picture(picture_of(path, size=128), ffmpeg_picture(path, size=128, extra=extra))


def test_eight_thousand_pixels(tmp_path):
    picture = np.kron(COLOURS, np.ones((2160, 3840, 1), np.uint8))
    options = {"preset": "ultrafast"}
    path = write_video(tmp_path / "a.mp4", [picture], options=options, context={"colorspace": 5})
    assert np.abs(picture_of(path)[16::32, 16::32].astype(int) - COLOURS).max() < 12


@pytest.mark.parametrize(("size", "target"), [((640, 480), 128), ((1920, 1080), 128), ((96, 80), 224)])
def test_scaling_is_as_good_as_pillow(tmp_path, size, target):
    picture = natural_picture(*size)
    path = write_video(tmp_path / "a.mkv", [picture], codec="ffv1", pixel_format="bgr0")
    theirs = np.asarray(Image.fromarray(picture).resize((target, target), Image.BICUBIC))
    ours = picture_of(path, size=target).astype(float)
    error = ((ours - theirs) ** 2).mean()
    assert 10 * np.log10(255**2 / error) >= 40
    linear = np.asarray(Image.fromarray(picture).resize((target, target), Image.BILINEAR))
    assert 2 * error < ((ours - linear) ** 2).mean()  # bicubic it is


def test_alpha_is_seen_over_black(tmp_path):
    rgba = np.full((64, 64, 4), 200, np.uint8)
    rgba[:, :32, 3], rgba[:, 32:, 3] = 255, 64
    path = write_video(tmp_path / "a.mov", [av.VideoFrame.from_ndarray(rgba, "rgba")], codec="png", pixel_format="rgba")
    picture = picture_of(path)
    assert abs(int(picture[32, 10, 0]) - 200) <= 2
    assert abs(int(picture[32, 54, 0]) - 50) <= 2


def test_palette(tmp_path):
    path = write_video(
        tmp_path / "a.gif",
        [np.kron(COLOURS, np.ones((32, 32, 1), np.uint8))] * 2,
        codec="gif",
        pixel_format="rgb8",
    )
    assert np.abs(picture_of(path)[16::32, 16::32].astype(int) - COLOURS).max() < 60


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_orientation(tmp_path, rotation, mirrored):
    picture = np.kron(COLOURS, np.ones((32, 48, 1), np.uint8))
    path = write_video(
        tmp_path / "a.mp4", [picture] * 2, options={"qp": "4"}, pixel_format="yuv444p",
        rotation_degrees=rotation, mirrored=mirrored,
    )  # fmt: skip
    decoded = decode_video(path, frames=1, size=64)
    corners = decoded.clips[0].frames[0][16::32, 16::32].astype(int)
    shown = np.rot90(COLOURS, -rotation // 90)
    shown = shown[:, ::-1] if mirrored else shown
    assert np.abs(corners - shown).max() < 12
    assert (decoded.info.width, decoded.info.height) == ((64, 96) if rotation % 180 else (96, 64))
    assert (decoded.info.rotation_degrees, decoded.info.mirrored) == (rotation, mirrored)


@needs_ffmpeg
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le"])
def test_turned_as_the_ffmpeg_program(tmp_path, rotation, mirrored, pixel_format):
    path = write_video(
        tmp_path / "a.mkv", [natural_picture(161, 97)], codec="ffv1", pixel_format=pixel_format,
        rotation_degrees=rotation, mirrored=mirrored,
    )  # fmt: skip
    assert_same_picture(picture_of(path), ffmpeg_picture(path))


def bars_video(path, **writing):
    """Black, a white square of 40 × 80 pixels in the middle of 160 × 120."""
    picture = np.zeros((120, 160, 3), np.uint8)
    picture[20:100, 60:100] = 255
    return write_video(path, [picture] * 2, pixel_format="yuv444p", options={"qp": "4"}, **writing)


def extent(picture):
    """Width and height of what is bright."""
    bright = picture.mean(axis=2) > 128
    return int(bright.any(axis=0).sum()), int(bright.any(axis=1).sum())


@pytest.mark.parametrize(
    ("fit", "pixel_aspect", "expected"),
    [
        ("stretch", None, (16, 43)),  # 40/160 and 80/120 of 64
        ("crop", None, (21, 43)),  # of the middle 120 × 120
        ("pad", None, (16, 32)),  # 160 × 120 becomes 64 × 48
        ("stretch", Fraction(2), (16, 43)),
        ("crop", Fraction(2), (43, 43)),  # pixels twice as wide: the bar is square
        ("pad", Fraction(2), (16, 16)),
        ("pad", Fraction(1, 2), (11, 43)),  # shown as 80 × 120 on 43 × 64
    ],
)
def test_fits_and_pixel_shapes(tmp_path, fit, pixel_aspect, expected):
    path = bars_video(tmp_path / "a.mp4", pixel_aspect=pixel_aspect)
    width, height = extent(picture_of(path, fit=fit))
    assert abs(width - expected[0]) <= 1
    assert abs(height - expected[1]) <= 1


def test_padding_is_black_and_centred(tmp_path):
    path = write_video(tmp_path / "a.mp4", [np.full((40, 80, 3), 255, np.uint8)] * 2)
    rows = picture_of(path, fit="pad").mean(axis=(1, 2))
    assert (rows[:16] == 0).all() and (rows[48:] == 0).all() and (rows[18:46] > 240).all()


def test_padding_goes_where_the_turned_picture_is_narrow(tmp_path):
    white = np.full((40, 80, 3), 255, np.uint8)
    path = write_video(tmp_path / "a.mp4", [white] * 2, rotation_degrees=90)
    columns = picture_of(path, fit="pad").mean(axis=(0, 2))
    assert (columns[:16] == 0).all() and (columns[48:] == 0).all() and (columns[18:46] > 240).all()


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_boxes_are_in_the_shown_picture(tmp_path, rotation, mirrored, fit):
    """A numbered tile at a place of the shown picture; the coded picture is turned the other way."""
    shown = np.full((180, 140, 3), 255, np.uint8)
    shown[100:164, 30:94] = numbered_picture(5000)
    coded = shown[:, ::-1] if mirrored else shown
    coded = np.ascontiguousarray(np.rot90(coded, rotation // 90))
    path = write_video(
        tmp_path / "a.mp4", [coded] * 2, options={"qp": "4"}, rotation_degrees=rotation, mirrored=mirrored
    )
    assert read_number(picture_of(path, box=(30, 100, 64, 64), fit=fit)) == 5000
    assert read_number(picture_of(path)) != 5000


def test_boxes_count_square_pixels(tmp_path):
    picture = np.full((64, 160, 3), 255, np.uint8)
    picture[:, 40:72] = numbered_picture(1234, 32, 64)
    path = write_video(tmp_path / "a.mp4", [picture] * 2, options={"qp": "4"}, pixel_aspect=Fraction(2))
    assert read_number(picture_of(path, box=(80, 0, 64, 64))) == 1234


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (None, (0, 0, 100, 50)),
        ((10, 10, 20, 20), (10, 10, 20, 20)),
        ((-10, -10, 30, 30), (0, 0, 20, 20)),
        ((90, 40, 30, 30), (90, 40, 10, 10)),
        ((99.5, 49.5, 10, 10), (99, 49, 1, 1)),
        ((-9.5, -9.5, 10, 10), (0, 0, 1, 1)),
    ],
)
def test_boxes_are_cut_to_the_picture(box, expected):
    assert clamp_box(box, 100, 50) == expected


@pytest.mark.parametrize(
    "box", [(500, 10, 10, 10), (10, 500, 10, 10), (-10, 0, 10, 10), (0, -20, 10, 10), (100, 0, 9, 9)]
)
def test_boxes_outside_the_picture_are_refused(box):
    with pytest.raises(VideoError, match=r"^its box lies outside the picture$"):
        clamp_box(box, 100, 50)


def test_fit_box():
    assert fit_box("stretch", (0, 0, 100, 50), 64) == ((0, 0, 100, 50), (64, 64))
    assert fit_box("crop", (10, 0, 100, 50), 64) == ((35, 0, 50, 50), (64, 64))
    assert fit_box("pad", (0, 0, 100, 50), 64) == ((0, 0, 100, 50), (64, 32))
    assert fit_box("pad", (0, 0, 1000, 1), 64) == ((0, 0, 1000, 1), (64, 1))


def test_boxes_in_turned_and_stretched_pictures():
    geometry = Geometry(100, 50, Fraction(2), 90, False)
    assert geometry.shown_size == (50, 200)
    assert geometry.coded_box((0, 0, 50, 200)) == (0, 0, 100, 50)
    assert geometry.coded_box((40, 0, 10, 20)) == (0, 0, 10, 10)  # top right is the coded top left
    assert Geometry(3, 5, Fraction(1, 100), 0, False).shown_size == (1, 5)
