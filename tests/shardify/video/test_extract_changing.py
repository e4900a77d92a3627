"""Streams whose times, aspects or colours change on the way: what is shown, whichever way takes the frames."""

from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from extracting import is_numbered_as_planned, quick, request, thorough
from media import (
    continued_video,
    joined_videos,
    numbered_picture,
    numbered_video,
    read_number,
    write_video,
)

from shardify.video.decode import decode_video
from shardify.video.extract import Request
from shardify.video.resize import PictureMaker

COUNT = 101


@pytest.mark.parametrize(
    "parts", [((0, 100), (100, 10)), ((0, 10), (10, 100))], ids=["long and short", "short and long"]
)
@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.ts", "libx264", {"bf": "2", "g": "30"}),
        ("a.mpg", "mpeg2video", {"bf": "2", "g": "15"}),
        ("plain.ts", "mpeg2video", {"bf": "0"}),
    ],
)
def test_joined_recordings_follow_one_another(tmp_path, name, codec, options, parts):
    """The clock of the second begins anew, so that many times are there twice."""
    path = joined_videos(tmp_path / name, *parts, codec=codec, options=options, rate=25)
    assert quick(path, request()) is None
    decoded = decode_video(path, frames=110, size=64)
    assert [read_number(picture) for picture in decoded.clips[0].frames] == list(range(110))
    assert decoded.clips[0].frame_index == tuple(range(110))
    assert decoded.clips[0].pts_seconds == tuple(sorted(set(decoded.clips[0].pts_seconds)))
    assert (decoded.info.num_frames, decoded.info.fps) == (110, pytest.approx(25))


def test_joined_recordings_whose_times_lie_between_one_another(tmp_path):
    """No time is there twice, and the second begins later than the first."""
    parts = []
    for i, (first, count) in enumerate(((0, 100), (100, 10))):
        ticks = [3600 * number + 1800 * i for number in range(count)]
        pictures = (numbered_picture(first + number) for number in range(count))
        writing = {"options": {"bf": "0"}, "times": ticks, "time_base": Fraction(1, 90000)}
        parts.append(write_video(tmp_path / f"{i}.ts", pictures, **writing).read_bytes())
    (tmp_path / "a.ts").write_bytes(b"".join(parts))
    assert quick(tmp_path / "a.ts", request(2)) is None
    taken = thorough(tmp_path / "a.ts", request())
    assert len(taken.times) == 110 and is_numbered_as_planned(taken)


@pytest.mark.parametrize("every", [10, 40])
def test_guessed_times_of_avi_reorder_nothing(tmp_path, every):
    """Few pictures are reordered, and libav's guesses are wrong about those alone."""

    def as_kind(frame):
        kinds = av.video.frame.PictureType
        frame.pict_type = kinds.B if frame.pts % every == every - 2 else kinds.P if frame.pts else kinds.I
        return frame

    path = numbered_video(tmp_path / "a.avi", COUNT, options={"bf": "2", "g": "200"}, prepare=as_kind)
    with av.open(path) as container:
        shown = [frame.pts for frame in container.decode(video=0)]
    assert 0 < sum(later < time for time, later in pairwise(shown)) <= COUNT / 8
    decoded = decode_video(path, frames=COUNT, size=64).clips[0]
    assert [read_number(picture) for picture in decoded.frames] == list(range(COUNT))


def white_parts(tmp_path, *aspects):
    """White pictures of 64 × 64 pixels, 30 for each aspect, on one clock; the container knows no aspect."""
    parts = []
    for i, aspect in enumerate(aspects):
        pictures = [np.full((64, 64, 3), 255, np.uint8)] * 30
        writing = {"codec": "mpeg2video", "options": {"bf": "2", "g": "15"}, "pixel_aspect": aspect, "rate": 25}
        parts.append(write_video(tmp_path / f"{i}.ts", pictures, **writing))
    return continued_video(tmp_path / "a.ts", *parts)


def white_rows(pictures):
    return [int((picture[:, 32].mean(-1) > 128).sum()) for picture in pictures]


@pytest.mark.parametrize("frames", [2, 60])
def test_a_pixel_aspect_that_changes_in_mid_stream(tmp_path, frames):
    """4:3, then 16:9, of the same pixels: with two frames, each is decoded for itself."""
    wide, wider = Fraction(4, 3), Fraction(16, 9)
    wanted = Request(frames, 1, None, PictureMaker(64, "pad"))
    same = quick(white_parts(tmp_path, wide, wide), wanted)
    assert white_rows(same.pictures.values()) == [48] * frames
    path = white_parts(tmp_path, wide, wider)
    assert quick(path, wanted) is None
    pictures = decode_video(path, frames=frames, size=64, fit="pad").clips[0].frames
    assert white_rows(pictures) == [48] * (frames // 2) + [36] * (frames // 2)


def green_parts(tmp_path, *sizes):
    """Green pictures whose stream names no matrix, ten of the first size and 30 of each other."""
    parts = []
    for i, (width, height) in enumerate(sizes):
        pictures = [np.tile(np.array([40, 200, 60], np.uint8), (height, width, 1))] * (30 if i else 10)
        writing = {"codec": "mpeg2video", "options": {"bf": "2", "g": "15", "q:v": "2"}, "rate": 25}
        parts.append(write_video(tmp_path / f"{i}.ts", pictures, **writing))
    return continued_video(tmp_path / "a.ts", *parts)


@pytest.mark.parametrize("frames", [1, 16])
@pytest.mark.parametrize("small_first", [True, False])
def test_the_first_picture_decides_on_the_matrix_of_all(tmp_path, frames, small_first):
    """Also where the first one is not wanted, and the decoder jumps over it; BT.601 gives the colours back."""
    sizes = [(64, 64), (1280, 64)]
    path = green_parts(tmp_path, *(sizes if small_first else sizes[::-1]))
    for taken in (quick(path, request(frames)), thorough(path, request(frames))):
        means = np.array([picture.mean(axis=(0, 1)) for picture in taken.pictures.values()])
        difference = np.abs(means - [40, 200, 60]).max(axis=1)
        assert (difference < 6).all() if small_first else (difference > 10).all()
