import io

import numpy as np
import pytest
from builds import make_videos, run_build
from faces import bright_squares, square_at
from PIL import Image

from shardify import image as image_module
from shardify.errors import UsageError, VideoError
from shardify.faces.pictures import FacePictures
from shardify.faces.track import FaceSettings
from shardify.image import decode_picture
from shardify.tools.verify import verify_folder
from shardify.video.extract import Request
from shardify.video.resize import PictureMaker
from trainer import ClipLoader
from trainer.shards.shard_set import open_shards

# four colours, one in each quarter: red, green / blue, white
QUARTERS = np.array([[[200, 0, 0], [0, 200, 0]], [[0, 0, 200], [255, 255, 255]]], np.uint8).repeat(32, 0).repeat(32, 1)


def file_of(image, format, **how):
    file = io.BytesIO()
    image.save(file, format, **how)
    file.seek(0)
    return file


def decoded(file, size=32, maker=None):
    return decode_picture(file, Request(1, 1, None, maker or PictureMaker(size)))


def corners(file):
    """The colours of the four quarters, (4, 3)."""
    picture = decoded(file).clips[0].frames[0].astype(int)
    return np.array([picture[8, 8], picture[8, 24], picture[24, 8], picture[24, 24]])


EXPECTED = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200], [255, 255, 255]])


@pytest.mark.parametrize(
    ("format", "how"), [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 95})]
)
def test_every_format_gives_its_colours(format, how):
    file = file_of(Image.fromarray(QUARTERS), format, **how)
    video = decoded(file)
    assert (video.info.codec, video.info.num_frames, video.info.width) == (format.lower(), 1, 64)
    assert (video.clips[0].frame_index, video.clips[0].pts_seconds, video.decoder) == ((0,), (0.0,), "cpu")
    assert video.clips[0].frames.shape == (1, 32, 32, 3)
    assert np.abs(corners(file_of(Image.fromarray(QUARTERS), format, **how)) - EXPECTED).max() <= 12


@pytest.mark.parametrize(
    ("orientation", "order"),
    [
        (1, (0, 1, 2, 3)),
        (2, (1, 0, 3, 2)),
        (3, (3, 2, 1, 0)),
        (4, (2, 3, 0, 1)),
        (5, (0, 2, 1, 3)),
        (6, (2, 0, 3, 1)),
        (7, (3, 1, 2, 0)),
        (8, (1, 3, 0, 2)),
    ],
)
def test_pictures_are_turned_as_their_exif_data_says(orientation, order):
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = corners(file_of(Image.fromarray(QUARTERS), "PNG", exif=exif))
    assert np.abs(found - EXPECTED[list(order)]).max() <= 2


def test_transparent_pixels_are_seen_over_black():
    rgba = np.dstack([QUARTERS, np.full((64, 64), 255, np.uint8)])
    rgba[:32, :32, 3] = 0
    rgba[:32, 32:, 3] = 128
    assert np.abs(corners(file_of(Image.fromarray(rgba), "PNG"))[:2] - [[0, 0, 0], [0, 100, 0]]).max() <= 2
    palette = Image.fromarray(QUARTERS).quantize(4)
    file = file_of(palette, "PNG", transparency=palette.getpixel((0, 0)))
    assert np.abs(corners(file) - [[0, 0, 0], *EXPECTED[1:]]).max() <= 2


def test_palettes_grey_cmyk_and_sixteen_bits():
    assert np.abs(corners(file_of(Image.fromarray(QUARTERS).quantize(4), "PNG")) - EXPECTED).max() <= 2
    cmyk = file_of(Image.fromarray(QUARTERS).convert("CMYK"), "TIFF")
    assert np.abs(corners(cmyk) - EXPECTED).max() <= 2
    ramp = np.linspace(0, 65_535, 64 * 64).reshape(64, 64)
    deep = decoded(file_of(Image.fromarray(ramp.astype(np.uint16)), "PNG")).clips[0].frames[0]
    plain = decoded(file_of(Image.fromarray((ramp / 257).astype(np.uint8)), "PNG")).clips[0].frames[0]
    assert np.abs(deep.astype(int) - plain).max() <= 1 and deep.max() > 250


def test_a_box_around_a_face_in_a_picture():
    picture = square_at(40, 30, 24)
    maker = FacePictures(PictureMaker(32), bright_squares, FaceSettings(margin=0.25))
    for max_kept in (0, 1 << 20):
        maker = FacePictures(PictureMaker(32), bright_squares, FaceSettings(margin=0.25), max_kept=max_kept)
        (clip,) = decoded(file_of(Image.fromarray(picture), "PNG"), maker=maker).clips
        assert clip.cut.box == (34, 24, 36, 36) and clip.frames[0, 12:20, 12:20].min() > 200


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (io.BytesIO(b""), "not a picture"),
        (io.BytesIO(b"GIF89a" + bytes(50)), "not a picture"),
        (io.BytesIO(file_of(Image.fromarray(QUARTERS), "PNG").getvalue()[:-60]), "truncated|not a picture"),
        (io.BytesIO(file_of(Image.fromarray(QUARTERS), "JPEG").getvalue()[:-300]), "^truncated"),
        (
            file_of(
                Image.fromarray(QUARTERS),
                "WEBP",
                save_all=True,
                append_images=[Image.new("RGB", (64, 64), colour) for colour in ("black", "red")],
            ),
            "^holds 3 pictures; make a video of it",
        ),
        (file_of(Image.fromarray(np.zeros((8, 8), np.float32)), "TIFF"), "^holds 32-bit numbers"),
        (file_of(Image.fromarray(np.full((8, 8), 200, np.int32)), "TIFF"), "^holds 32-bit numbers"),
    ],
    ids=["empty", "gif", "cut png", "cut jpeg", "animated", "float", "32 bit"],
)
def test_what_is_no_picture_is_a_reason_in_one_line(file, reason):
    with pytest.raises(VideoError, match=reason) as failure:
        decoded(file)
    assert "\n" not in str(failure.value) and " at 0x" not in str(failure.value)


def test_a_photo_that_brings_a_second_picture_is_its_first_one():
    file = file_of(Image.fromarray(QUARTERS), "MPO", save_all=True, append_images=[Image.new("RGB", (16, 16), "red")])
    assert np.abs(corners(file) - EXPECTED).max() <= 12


def test_damaged_exif_data_are_passed_over_without_a_word(recwarn):
    file = file_of(Image.fromarray(QUARTERS), "JPEG", quality=95, exif=b"Exif\0\0II*\0\x08\0\0\0\x02\0\x12\x01")
    assert np.abs(corners(file) - EXPECTED).max() <= 12 and not recwarn.list


@pytest.fixture
def album(tmp_path):
    for i in range(8):
        place = tmp_path / "album" / ("fake", "real")[i % 2] / f"{i}.{('png', 'JPG')[i // 4]}"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(QUARTERS, 3 * i, axis=1)).save(place, "PNG" if i < 4 else "JPEG")
    (tmp_path / "album" / "real" / "broken.png").write_bytes(b"no picture")
    return tmp_path / "album"


def test_a_folder_of_pictures_becomes_shards_of_one_frame(album, tmp_path):
    report = run_build(album, tmp_path / "s", frames=1)
    assert (report.inputs, report.ok_inputs) == (9, 8) and "not a picture" in next(iter(report.failures))
    assert verify_folder(tmp_path / "s", 1) == []
    shards = open_shards(tmp_path / "s")
    assert (shards.classes, shards.frames, len(shards.samples)) == (["real", "fake"], 1, 8)
    clips, _ = next(iter(ClipLoader(shards, "train", batch_size=2)))
    assert clips.shape == (2, 1, 3, 32, 32)
    assert run_build(album, tmp_path / "s", frames=1).new_inputs == 0


def test_pictures_are_no_clips_of_several_frames_and_do_not_go_with_videos(album, tmp_path):
    with pytest.raises(UsageError, match="is a picture, as all inputs are: pass --frames 1"):
        run_build(album, tmp_path / "s")
    with pytest.raises(VideoError, match="is a picture, and clips have 4 frames"):
        decode_picture(file_of(Image.fromarray(QUARTERS), "PNG"), Request(4))
    make_videos(album, ["real/v.mp4", "fake/v.mp4"])  # then pictures are covers, and are ignored aloud
    report = run_build(album, tmp_path / "s")
    assert (report.inputs, report.ignored) == (2, 9)
    (tmp_path / "m.csv").write_text("path,class\nreal/v.mp4,a\nreal/1.png,b\n")
    with pytest.raises(UsageError, match=r"real/1\.png is a picture, others are videos"):
        run_build(album, tmp_path / "t", manifest=tmp_path / "m.csv")


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(image_module, "MAX_PIXELS", 64 * 64 - 1)
    with pytest.raises(VideoError, match=r"^too large: 64×64 pixels$"):
        decoded(file_of(Image.fromarray(QUARTERS), "PNG"))
    monkeypatch.setattr(image_module, "MAX_PIXELS", 64 * 64)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's own limit has no say
    assert decoded(file_of(Image.fromarray(QUARTERS), "PNG")).info.width == 64
    assert Image.MAX_IMAGE_PIXELS == 10
