from fractions import Fraction

import pytest
from media import numbered_video

from shardify.errors import VideoError
from shardify.video.container import open_video
from shardify.video.decode import decode_clips, decode_video
from shardify.video.extract import Request, take_by_counting
from shardify.video.piece import Piece, split_piece
from shardify.video.resize import PictureMaker


@pytest.mark.parametrize(
    ("start", "end", "name"),
    [("1.5", "3", "#t=1.5,3"), ("0", "0.000001", "#t=0,0.000001"), ("1e1", "010.50", "#t=10,10.5")],
)
def test_a_piece_and_its_name(start, end, name):
    piece = Piece.of(start, end)
    assert str(piece) == name and split_piece(f"a b/c.mp4{name}") == ("a b/c.mp4", piece)


@pytest.mark.parametrize("name", ["a.mp4", "a#t=1,2.mp4", "#t=1,2", "a.mp4#t=1", "a.mp4#t=1,2,3", "a.mp4#t=-1,2"])
def test_other_names_are_of_whole_videos(name):
    assert split_piece(name) == (name, None)


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        ("3", "1", "end is 1 and start is 3"),
        ("1", "1", "must come after the start"),
        ("-1", "1", "start is -1; it must be 0 to 360000 seconds"),
        ("1", "nan", "end is nan"),
        ("1", "Infinity", "end is Infinity"),
        ("1", "1e999999", "end is 1e999999"),
        ("0:05", "9", "start is 0:05; it must be seconds"),
        ("", "9", "must be seconds"),
    ],
)
def test_what_is_no_piece(start, end, reason):
    with pytest.raises(ValueError, match=reason):
        Piece.of(start, end)


def test_the_frames_of_a_piece_are_those_that_begin_in_it():
    times, base = list(range(100, 160, 5)), Fraction(1, 50)  # 12 frames of 0.1 s, the first at 2 s
    assert Piece.of("0.1", "0.4").cut(times, 5, base) == (range(1, 4), 5)
    assert Piece.of("0.15", "0.35").cut(times, 5, base) == (range(2, 4), 2)  # the last one lasts until the piece ends
    assert Piece.of("0", "1.2").cut(times, 5, base) == Piece.of("0", "2.2").cut(times, 5, base) == (range(12), 5)
    thirds = [0, 1001, 2002, 3003]
    assert Piece.of("0.033367", "0.066733").cut(thirds, 1001, Fraction(1, 30000))[0] == range(1, 2)  # as records round
    with pytest.raises(VideoError, match=r"ends at 2.21 s, the video at 1.2 s"):
        Piece.of("0", "2.21").cut(times, 5, base)
    with pytest.raises(VideoError, match=r"no frame begins in its piece, 0.11 to 0.19 s"):
        Piece.of("0.11", "0.19").cut(times, 5, base)
    with pytest.raises(VideoError, match=r"no frame begins in its piece, 1.2 to 2 s"):
        Piece.of("1.2", "2").cut(times, 5, base)


LATE = [0, 2, 3, 7, 8, 9, 15, 16, 17, 18, 30, 31]  # tenths of a second


@pytest.mark.parametrize(
    ("name", "count", "clips", "stride", "writing"),
    [
        ("plain.mp4", 60, 1, None, {}),
        ("plain.mp4", 60, 2, 1, {}),
        ("late.mkv", 12, 2, None, {"times": [20 + time for time in LATE], "time_base": Fraction(1, 10)}),
        ("mpeg4.avi", 60, 2, None, {"codec": "mpeg4"}),  # has no presentation times: the thorough way
        ("indexed.mp4", 60, 1, None, {"codec": "mpeg4"}),  # as long files are, by its index
    ],
)
def test_a_piece_has_the_frames_of_the_whole_video(tmp_path, monkeypatch, name, count, clips, stride, writing):
    if name == "indexed.mp4":
        monkeypatch.setattr("shardify.video.mp4_index.LONG_FRAMES", count)
    path = numbered_video(tmp_path / name, count, rate=10, size=(32, 32), **writing)
    whole = decode_video(path, size=64, frames=count, stride=1).clips[0]
    first = whole.pts_seconds[0]
    sampling, piece = {"frames": 3, "clips": clips, "stride": stride}, Piece.of("0.7", "1.8")
    found = decode_video(path, size=64, piece=piece, **sampling)
    for clip in found.clips:
        for picture, number, pts in zip(clip.frames, clip.frame_index, clip.pts_seconds, strict=True):
            assert 0.7 <= round(pts - first, 6) < 1.8
            assert whole.pts_seconds[number] == pts and (picture == whole.frames[number]).all()
    if "times" not in writing:  # at a constant rate as if the file had no other frames
        expected = Request(**sampling).plan(range(11), 1, Fraction(1, 10))
        assert [clip.frame_index for clip in found.clips] == [tuple(7 + number for number in clip) for clip in expected]
    with open_video(path) as video:
        counted = take_by_counting(video, Request(piece=piece, make_picture=PictureMaker(64), **sampling))
    assert counted.plan == tuple(clip.frame_index for clip in found.clips) and found.info.num_frames == count


def test_a_piece_that_the_video_does_not_have(tmp_path):
    path = numbered_video(tmp_path / "a.mp4", 10, rate=10)
    for piece, reason in ((Piece.of("5", "6"), "the video at 1 s"), (Piece.of("0.11", "0.12"), "no frame begins")):
        with open_video(path) as video, pytest.raises(VideoError, match=reason):
            decode_clips(video, Request(piece=piece, make_picture=PictureMaker(64)))
