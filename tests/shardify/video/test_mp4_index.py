"""Long files with an index: only what is needed is read, and every doubt sends them the ordinary way."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from media import changed_copy, noisy_picture, numbered_video, read_number

from shardify.video.container import VideoFile, open_video, readable_failures
from shardify.video.decode import decode_clips, decode_video
from shardify.video.extract import Request, take_by_counting
from shardify.video.mp4_index import indexed_timeline, is_long_and_indexed
from shardify.video.resize import PictureMaker
from shardify.video.sampling import plan_clips, plan_constant_rate

COUNT = 120
REORDERED = {"g": "12", "bf": "3"}
OPEN_GOP = {"g": "12", "x264-params": "open-gop=1:b-pyramid=normal:bframes=3"}


@pytest.fixture
def all_count_as_long(monkeypatch):
    monkeypatch.setattr("shardify.video.mp4_index.LONG_FRAMES", 50)


def timeline_of(path, frames=16, clips=1, stride=None):
    wanted = Request(frames, clips, stride, PictureMaker(64))
    with open_video(path) as video, video.demuxer() as stream:
        assert is_long_and_indexed(stream)
        return indexed_timeline(stream, video.size_bytes, wanted.plan)


def numbers_in(decoded):
    return tuple(tuple(read_number(picture) for picture in clip.frames) for clip in decoded.clips)


class CountingFile(io.FileIO):
    bytes_read = 0

    def read(self, size=-1):
        data = super().read(size)
        self.bytes_read += len(data)
        return data


def test_little_of_a_long_file_is_read_and_nothing_twice(tmp_path, all_count_as_long):
    path = numbered_video(
        tmp_path / "a.mp4",
        1000,
        size=(96, 96),
        picture=noisy_picture,
        options={"preset": "ultrafast", "qp": "4", "sc_threshold": "0", "g": "100", "bf": "3"},
        container_options={"movflags": "faststart"},
    )
    size = path.stat().st_size
    assert size > 6e6
    with CountingFile(path) as file, readable_failures():
        decoded = decode_clips(VideoFile(file, size, []), Request(2, make_picture=PictureMaker(64)))
        assert file.bytes_read < 0.45 * size  # two groups of ten, the first pictures, the last group, 5 buffers
    assert numbers_in(decoded) == plan_constant_rate(1000, frames=2)


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", REORDERED),
        ("libx264", OPEN_GOP),
        ("libx264", {"g": "1"}),
        ("libx264", {"g": "999"}),
        ("libx265", {"x265-params": "open-gop=1:keyint=12:min-keyint=12:bframes=3:scenecut=0:log-level=none"}),
        ("mpeg4", {"g": "12", "bf": "2"}),
        ("mjpeg", {}),
    ],
)
@pytest.mark.parametrize(
    ("name", "container_options"),
    [("a.mp4", {}), ("a.mov", {}), ("a.mp4", {"use_editlist": "0"})],
    ids=["mp4", "mov", "no edit list"],
)
def test_the_index_gives_the_same_frames(tmp_path, all_count_as_long, name, codec, options, container_options):
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = numbered_video(
        tmp_path / name, COUNT, codec=codec, options=options, pixel_format=pixel_format,
        container_options=container_options,
    )  # fmt: skip
    for frames, clips, stride in ((16, 1, None), (3, 1, None), (2, 2, 5), (12, 1, 1), (1, 120, None)):
        timeline = timeline_of(path, frames, clips, stride)
        assert timeline is not None
        decoded = decode_video(path, frames=frames, size=64, clips=clips, stride=stride)
        assert numbers_in(decoded) == plan_constant_rate(COUNT, frames=frames, clips=clips, stride=stride)
        with open_video(path) as video, video.demuxer() as stream:
            whole = sorted(packet.pts for packet in stream.container.demux(stream) if packet.size)
        planned = {number for clip in decoded.clips for number in clip.frame_index}
        assert all(timeline.times[number] == whole[number] for number in planned)
        assert len(timeline.times) == COUNT and timeline.last_duration > 0


@pytest.mark.parametrize("start", range(4))
def test_rounded_times_are_found(tmp_path, monkeypatch, start):
    """60000/1001 frames/s in ticks of a millisecond: the true times are up to one tick beside the even ones."""
    ticks = [round((start + i) * 1001 / 60) for i in range(COUNT + start)]
    path = numbered_video(
        tmp_path / "a.mp4", COUNT + start, times=ticks, time_base=Fraction(1, 1000), options={"bf": "0"},
        container_options={"video_track_timescale": "1000"},
    )  # fmt: skip
    demuxed = [decode_video(path, frames=16, size=64, clips=clips) for clips in (1, 3)]
    monkeypatch.setattr("shardify.video.mp4_index.LONG_FRAMES", 50)
    assert timeline_of(path) is not None
    for clips, expected in zip((1, 3), demuxed, strict=True):
        decoded = decode_video(path, frames=16, size=64, clips=clips)
        assert decoded.info == expected.info
        assert [clip.pts_seconds for clip in decoded.clips] == [clip.pts_seconds for clip in expected.clips]
        assert numbers_in(decoded) == numbers_in(expected)


def moved(by_number):
    """Moves the presentation times of some packets by ticks."""

    def change(number, packet):
        packet.pts += by_number.get(number, 0)
        return packet

    return change


@pytest.mark.parametrize(
    ("by_number", "doubt"),
    [
        ({}, False),
        ({COUNT - 1: 700}, True),  # the last frame comes later than the index promises
        ({62: 90}, True),  # a wanted one is not where it should be
        ({63: 512}, True),  # two at the same time
        ({2: 90}, False),  # somewhere else: not seen
    ],
)
def test_times_that_do_not_fit(tmp_path, all_count_as_long, by_number, doubt):
    whole = numbered_video(tmp_path / "whole.mp4", COUNT, options={"g": "12", "bf": "0"})
    path = changed_copy(whole, tmp_path / "a.mp4", moved(by_number))
    assert (timeline_of(path, frames=3, stride=2) is None) is doubt


def test_variable_rate_is_demuxed(tmp_path, all_count_as_long):
    ticks = [i * 10 + (i > 50) * 300 for i in range(COUNT)]
    path = numbered_video(tmp_path / "a.mp4", COUNT, times=ticks, time_base=Fraction(1, 1000))
    assert timeline_of(path) is None
    decoded = decode_video(path, size=64)
    assert decoded.clips[0].frame_index == plan_clips(ticks, 10, frames=16)[0]
    assert numbers_in(decoded) == (decoded.clips[0].frame_index,)


def test_hidden_frames_are_demuxed(tmp_path, all_count_as_long):
    whole = numbered_video(tmp_path / "whole.mp4", COUNT, options={"g": "200", "sc_threshold": "0"})

    def shift(_, packet):
        packet.pts, packet.dts = packet.pts - 20 * packet.duration, packet.dts - 20 * packet.duration
        return packet

    path = changed_copy(whole, tmp_path / "a.mp4", shift)
    assert timeline_of(path) is None
    decoded = decode_video(path, size=64)
    assert decoded.info.num_frames == COUNT - 20
    assert numbers_in(decoded) == (tuple(20 + number for number in decoded.clips[0].frame_index),)


def test_a_cut_file_is_demuxed(tmp_path, all_count_as_long):
    path = numbered_video(
        tmp_path / "a.mp4", COUNT, picture=noisy_picture, options=REORDERED,
        container_options={"movflags": "faststart"},
    )  # fmt: skip
    path.write_bytes(path.read_bytes()[:-20000])
    assert timeline_of(path, frames=2) is None
    decoded = decode_video(path, frames=2, size=64)
    assert decoded.info.num_frames < COUNT and decoded.decode_errors > 0
    assert numbers_in(decoded) == (decoded.clips[0].frame_index,)


def test_a_file_that_begins_without_a_key_frame_is_demuxed(tmp_path, all_count_as_long):
    def no_key(number, packet):
        packet.is_keyframe = packet.is_keyframe and number > 0
        return packet

    whole = numbered_video(tmp_path / "whole.mp4", COUNT, options=REORDERED)
    assert timeline_of(changed_copy(whole, tmp_path / "a.mp4", no_key)) is None


def test_a_file_that_begins_with_pictures_of_the_group_before_is_demuxed(tmp_path, all_count_as_long):
    whole = numbered_video(tmp_path / "whole.mp4", COUNT, options=OPEN_GOP | {"sc_threshold": "0"})
    keys = []

    def without_the_first_group(number, packet):
        if packet.is_keyframe:
            keys.append(number)
        return packet if len(keys) > 1 else None

    path = changed_copy(whole, tmp_path / "a.mp4", without_the_first_group)
    assert timeline_of(path) is None


def test_files_with_too_much_to_keep_are_demuxed(tmp_path, monkeypatch, all_count_as_long):
    path = numbered_video(tmp_path / "a.mp4", COUNT, options=REORDERED)
    monkeypatch.setattr("shardify.video.mp4_index.KEPT_BYTES", 100)
    assert timeline_of(path) is None


def test_damaged_units_are_demuxed(tmp_path, all_count_as_long):
    path = numbered_video(tmp_path / "a.mp4", COUNT, picture=noisy_picture, options={"g": "12", "bf": "0"})
    with av.open(path) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][75]
    data = bytearray(path.read_bytes())
    data[packet.pos : packet.pos + 4] = bytes(4)
    path.write_bytes(data)
    assert timeline_of(path, frames=1) is None
    assert timeline_of(path, frames=2) is not None  # frames 30 and 90: elsewhere


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "fragments.mp4"])
def test_files_without_a_whole_index_are_not_indexed(tmp_path, all_count_as_long, name):
    options = {"movflags": "frag_keyframe+empty_moov"} if name == "fragments.mp4" else {}
    path = numbered_video(tmp_path / name, COUNT, options=REORDERED, container_options=options)
    with open_video(path) as video, video.demuxer() as stream:
        assert not is_long_and_indexed(stream)


def test_short_and_endless_files_are_not_indexed(tmp_path, monkeypatch):
    path = numbered_video(tmp_path / "a.mp4", COUNT)
    with open_video(path) as video, video.demuxer() as stream:
        assert not is_long_and_indexed(stream)
        monkeypatch.setattr("shardify.video.mp4_index.LONG_FRAMES", 50)
        assert is_long_and_indexed(stream)
        monkeypatch.setattr("shardify.video.mp4_index.MAX_PACKETS", 100)
        assert not is_long_and_indexed(stream)


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"x264-params": "intra-refresh=1:keyint=120:bframes=0:scenecut=0"}),
        ("h263", {"g": "12"}),
    ],
)
def test_key_frames_of_the_container_that_are_no_entry_points(tmp_path, codec, options, monkeypatch):
    """Long files whose index names key frames at which decoding cannot be known to begin."""
    monkeypatch.setattr("shardify.video.mp4_index.LONG_FRAMES", 500)
    path = numbered_video(tmp_path / "a.mov", 600, size=(176, 144), codec=codec, options=options)
    decoded = decode_video(path, size=64).clips[0]
    assert [read_number(picture) for picture in decoded.frames] == list(decoded.frame_index)
    with open_video(path) as video:
        thorough = take_by_counting(video, Request(16, 1, None, PictureMaker(64)))
    assert np.array_equal(decoded.frames, np.stack([thorough.pictures[i] for i in decoded.frame_index]))
