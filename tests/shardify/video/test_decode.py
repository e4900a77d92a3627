"""Exact frames, proven by videos whose frames carry their own numbers, read back after decoding."""

import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from media import noisy_picture, numbered_picture, numbered_video, read_number, write_video

from shardify.errors import VideoError
from shardify.video.container import open_video
from shardify.video.decode import decode_video
from shardify.video.extract import Request, take_by_counting, take_by_time
from shardify.video.mp4_index import indexed_timeline, is_long_and_indexed
from shardify.video.resize import PictureMaker
from shardify.video.sampling import plan_clips, plan_constant_rate

OPEN_GOP = {"g": "20", "x264-params": "open-gop=1:b-pyramid=normal:bframes=3"}
HIERARCHY = {"bf": "16", "x264-params": "b-pyramid=strict:b-adapt=0"}
LONG_LAG = {"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "good", "cpu-used": "5"}
# name of the file, encoder, its options, pixel format
ENCODINGS = [
    ("one-gop.mp4", "libx264", {"g": "999", "bf": "3"}, "yuv420p"),
    ("short-gops.mp4", "libx264", {"g": "12", "bf": "3"}, "yuv420p"),
    ("no-b.mp4", "libx264", {"bf": "0"}, "yuv420p"),
    ("all-intra.mov", "libx264", {"g": "1"}, "yuv420p"),
    ("open-gop.mkv", "libx264", OPEN_GOP, "yuv420p"),
    ("open-gop.ts", "libx264", OPEN_GOP, "yuv444p"),
    ("hierarchy.mp4", "libx264", HIERARCHY, "yuv420p"),
    ("refresh.mp4", "libx264", {"x264-params": "intra-refresh=1:keyint=30"}, "yuv420p"),
    ("a.avi", "libx264", {"bf": "0"}, "yuv420p"),
    ("reordered.avi", "libx264", {"bf": "2"}, "yuv420p"),
    ("a.flv", "libx264", {"bf": "2"}, "yuv420p"),
    ("raw.h264", "libx264", {"bf": "2"}, "yuv420p"),
    ("hevc.mp4", "libx265", {"g": "24"}, "yuv420p"),
    ("hevc-open.ts", "libx265", {"g": "24", "x265-params": "open-gop=1:log-level=none"}, "yuv420p10le"),
    ("hevc-layers.mp4", "libx265", {"x265-params": "temporal-layers=3:log-level=none"}, "yuv420p"),
    ("vp8.webm", "libvpx", LONG_LAG, "yuv420p"),
    ("vp8.ivf", "libvpx", {}, "yuv420p"),
    ("vp9.webm", "libvpx-vp9", LONG_LAG, "yuv420p"),
    ("av1.mp4", "libsvtav1", {"g": "40"}, "yuv420p"),
    ("mpeg4.mp4", "mpeg4", {"bf": "2"}, "yuv420p"),
    ("mpeg4.avi", "mpeg4", {"bf": "2"}, "yuv420p"),
    ("mpeg2.mpg", "mpeg2video", {"bf": "2", "g": "15"}, "yuv420p"),
    ("mpeg2.ts", "mpeg2video", {"bf": "2"}, "yuv420p"),
    ("mjpeg.avi", "mjpeg", {}, "yuvj420p"),
    ("prores.mov", "prores_ks", {}, "yuv422p10le"),
    ("ffv1.mkv", "ffv1", {"g": "10"}, "yuv420p"),
    ("a.gif", "gif", {}, "rgb8"),
    ("a.wmv", "wmv2", {}, "yuv420p"),
    ("a.y4m", "rawvideo", {}, "yuv420p"),
]
COUNT = 101
REQUESTS = [(16, 1, None), (5, 3, None), (4, 2, 3)]  # frames, clips, stride


def numbers_in(clip):
    return [read_number(picture) for picture in clip.frames]


@pytest.mark.parametrize(("name", "codec", "options", "pixel_format"), ENCODINGS, ids=[e[0] for e in ENCODINGS])
def test_every_encoding_gives_the_planned_frames_both_ways(tmp_path, name, codec, options, pixel_format):
    path = tmp_path / name
    numbered_video(path, COUNT, codec=codec, options=options, pixel_format=pixel_format, rate=25)
    for frames, clips, stride in REQUESTS:
        planned = plan_constant_rate(COUNT, frames=frames, clips=clips, stride=stride)
        decoded = decode_video(path, frames=frames, size=64, clips=clips, stride=stride)
        assert decoded.info.num_frames == COUNT
        assert decoded.decode_errors == 0
        assert tuple(clip.frame_index for clip in decoded.clips) == planned
        assert tuple(tuple(numbers_in(clip)) for clip in decoded.clips) == planned
        with open_video(path) as video:
            counted = take_by_counting(video, Request(frames, clips, stride, PictureMaker(64)))
        for clip in decoded.clips:
            again = np.stack([counted.pictures[number] for number in clip.frame_index])
            assert np.array_equal(again, clip.frames)


@pytest.mark.parametrize(
    "name", ["one-gop.mp4", "open-gop.mkv", "refresh.mp4", "hevc-open.ts", "vp9.webm", "mpeg2.mpg"]
)
def test_the_quick_way_is_really_taken(tmp_path, name):
    _, codec, options, pixel_format = next(encoding for encoding in ENCODINGS if encoding[0] == name)
    numbered_video(tmp_path / name, COUNT, codec=codec, options=options, pixel_format=pixel_format)
    with open_video(tmp_path / name) as video:
        assert take_by_time(video, Request(16, 1, None, PictureMaker(64))) is not None


@pytest.mark.parametrize("count", [1, 2, 5, 15])
def test_short_videos_repeat_frames(tmp_path, count):
    path = numbered_video(tmp_path / "a.mp4", count)
    (clip,) = decode_video(path, size=64).clips
    assert clip.frames.shape == (16, 64, 64, 3)
    assert clip.frames.dtype == np.uint8
    assert numbers_in(clip) == list(clip.frame_index) == [(2 * k + 1) * count // 32 for k in range(16)]


@pytest.mark.parametrize(
    "options",
    [{"g": "50", "bf": "2"}, OPEN_GOP, {"g": "99999", "sc_threshold": "0"}],
    ids=["closed", "open", "one"],
)
def test_long_indexed_files(tmp_path, options, monkeypatch):
    monkeypatch.setattr("shardify.video.mp4_index.LONG_FRAMES", 300)
    path = numbered_video(tmp_path / "a.mp4", 500, options={"preset": "ultrafast"} | options)
    for frames, clips, stride in REQUESTS:
        request = Request(frames, clips, stride, PictureMaker(64))
        with open_video(path) as video, video.demuxer() as stream:
            assert is_long_and_indexed(stream)
            timeline = indexed_timeline(stream, video.size_bytes, request.plan)
            assert timeline is not None and len(timeline.times) == 500
        decoded = decode_video(path, frames=frames, size=64, clips=clips, stride=stride)
        planned = plan_constant_rate(500, frames=frames, clips=clips, stride=stride)
        assert decoded.info.num_frames == 500
        assert tuple(tuple(numbers_in(clip)) for clip in decoded.clips) == planned
        for clip in decoded.clips:
            assert clip.pts_seconds == pytest.approx([number / 30 for number in clip.frame_index])


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mkv", "libx264", "yuv444p"),
        ("a.ts", "libx264", "yuv420p"),
        ("hevc.mp4", "libx265", "yuv420p"),
        ("vp8.webm", "libvpx", "yuv420p"),
        ("vp9.mkv", "libvpx-vp9", "yuv420p"),
        ("av1.mp4", "libsvtav1", "yuv420p"),
        ("mpeg4.mov", "mpeg4", "yuv420p"),
        ("mjpeg.mov", "mjpeg", "yuvj420p"),
        ("prores.mov", "prores_ks", "yuv422p10le"),
        ("ffv1.mkv", "ffv1", "yuv420p"),
    ],
)
def test_variable_rate(tmp_path, name, codec, pixel_format):
    ticks = np.cumsum(np.random.default_rng(1).integers(10, 200, 60)).tolist()  # milliseconds
    writing = {"codec": codec, "pixel_format": pixel_format, "options": {"bf": "2"} if "264" in codec else {}}
    path = numbered_video(tmp_path / name, 60, times=ticks, time_base=Fraction(1, 1000), **writing)
    for frames, clips, stride in REQUESTS:
        decoded = decode_video(path, frames=frames, size=64, clips=clips, stride=stride)
        planned = tuple(clip.frame_index for clip in decoded.clips)
        assert tuple(tuple(numbers_in(clip)) for clip in decoded.clips) == planned
        # The last frame's duration is what the container makes of it, so its share is left open.
        options = {"frames": frames, "clips": clips, "stride": stride}
        assert any(planned == plan_clips(ticks, last, **options) for last in range(1, 300))
        for clip in decoded.clips:
            gaps = np.diff([ticks[number] / 1000 for number in clip.frame_index])
            assert np.diff(clip.pts_seconds) == pytest.approx(gaps, abs=0.002)


def test_negative_times(tmp_path):
    path = tmp_path / "a.mkv"
    options = {"avoid_negative_ts": "disabled"}
    numbered_video(path, 30, times=range(-10, 20), container_options=options, codec="ffv1")
    decoded = decode_video(path, size=64)
    assert decoded.clips[0].pts_seconds[0] < 0
    assert numbers_in(decoded.clips[0]) == list(decoded.clips[0].frame_index)


def test_edit_list_hides_frames(tmp_path):
    """A file cut without recoding: its index holds frames before the cut that are not to be shown."""
    whole, cut = (
        numbered_video(tmp_path / "whole.mp4", 60, options={"g": "60", "bf": "2"}),
        tmp_path / "cut.mp4",
    )
    with av.open(whole) as source, av.open(cut, "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                shift = round(Fraction(20, 30) / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                target.mux(packet)
    decoded = decode_video(cut, size=64)
    assert decoded.info.num_frames == 40
    assert numbers_in(decoded.clips[0]) == [20 + number for number in decoded.clips[0].frame_index]


@pytest.mark.parametrize("name", ["a.ts", "a.mkv", "a.avi", "fragments.mp4", "raw.h264"])
@pytest.mark.parametrize("share", [0.35, 0.8])
def test_a_file_cut_short_gives_the_frames_that_are_left(tmp_path, name, share):
    options = {"movflags": "frag_keyframe+empty_moov"} if name == "fragments.mp4" else {}
    encoder = {"g": "15", "bf": "0", "qp": "20"}
    path = tmp_path / name
    numbered_video(path, 90, picture=noisy_picture, options=encoder, container_options=options)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    decoded = decode_video(path, size=64)
    (clip,) = decoded.clips
    assert 10 < decoded.info.num_frames < 90
    wrong = {index for number, index in zip(numbers_in(clip), clip.frame_index, strict=True) if number != index}
    assert wrong <= {decoded.info.num_frames - 1}  # the cut picture itself may be concealed


def test_a_stream_that_begins_in_the_middle(tmp_path):
    path = numbered_video(tmp_path / "a.ts", 90, options={"g": "30", "bf": "2"})
    data = path.read_bytes()
    path.write_bytes(data[len(data) // 188 // 2 * 188 :])
    decoded = decode_video(path, size=64)
    numbers = numbers_in(decoded.clips[0])
    first = 90 - decoded.info.num_frames
    assert first > 10
    assert decoded.decode_errors > 0  # the pictures before the first key frame
    assert numbers == [first + number for number in decoded.clips[0].frame_index]


def test_size_changes_in_the_stream(tmp_path):
    parts = [numbered_video(tmp_path / f"{i}.h264", 20, size=size) for i, size in enumerate([(64, 64), (128, 96)])]
    path = tmp_path / "both.h264"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    decoded = decode_video(path, size=64)
    assert decoded.info.num_frames == 40
    assert numbers_in(decoded.clips[0]) == [number % 20 for number in decoded.clips[0].frame_index]


def test_damage_is_counted_and_refused_by_strict(tmp_path):
    path = numbered_video(tmp_path / "a.ts", 120, size=(320, 240), options={"g": "120"})
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 4, len(data) // 2, 400):
        data[at] ^= 0xFF
    path.write_bytes(data)
    decoded = decode_video(path, size=64)
    assert decoded.decode_errors > 0
    again = decode_video(path, size=64)
    assert again.decode_errors == decoded.decode_errors
    assert np.array_equal(again.clips[0].frames, decoded.clips[0].frames)
    with pytest.raises(VideoError, match="--strict"):
        decode_video(path, size=64, strict=True)


def test_damage_that_only_the_decoder_sees_is_counted(tmp_path):
    """Packets are whole and their times are right, so the quick way begins, and has to give up."""
    path = numbered_video(tmp_path / "a.mp4", 60, picture=noisy_picture, options={"g": "60", "bf": "0"})
    data, noise = bytearray(path.read_bytes()), np.random.default_rng(0)
    with av.open(path) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size > 200][20:30]
    for packet in packets:
        data[packet.pos + 40 : packet.pos + 160] = noise.bytes(120)
    path.write_bytes(data)
    decoded = decode_video(path, size=64)
    assert 0 < decoded.decode_errors <= 10  # packets, however many complaints there are about each
    assert decoded.info.num_frames == 60


def test_what_is_known_of_the_video(tmp_path):
    path = numbered_video(
        tmp_path / "a.mp4", 50, size=(96, 64), rate=25, pixel_aspect=Fraction(4, 3), rotation_degrees=90
    )
    info = decode_video(path).info
    assert (info.width, info.height, info.display_width, info.display_height) == (64, 96, 64, 128)
    assert (info.num_frames, info.fps, info.duration_seconds) == (50, 25.0, 2.0)
    assert (info.codec, info.pixel_format, info.rotation_degrees) == ("h264", "yuv420p", 90)
    assert (info.mirrored, info.hdr) == (False, "none")


@pytest.mark.parametrize(("transfer", "expected"), [(16, "pq"), (18, "hlg"), (1, "none")])
def test_high_dynamic_range_is_flagged(tmp_path, transfer, expected):
    path = numbered_video(tmp_path / "a.mp4", 3, codec="libx265", context={"color_trc": transfer})
    assert decode_video(path).info.hdr == expected


def test_torch_is_not_needed():
    """Importing torch takes seconds, in every worker process."""
    check = "import sys, shardify.video.decode; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True).stdout == "False\n"


def test_a_picture_of_another_kind_in_between(tmp_path):
    """Two parts with different pixel formats in one elementary stream: filters are rebuilt."""
    one = write_video(tmp_path / "1.h264", (numbered_picture(i) for i in range(8)))
    two = write_video(tmp_path / "2.h264", (numbered_picture(i) for i in range(8)), pixel_format="yuv444p")
    path = tmp_path / "both.h264"
    path.write_bytes(one.read_bytes() + two.read_bytes())
    decoded = decode_video(path, size=64)
    assert numbers_in(decoded.clips[0]) == [0, 1, 2, 3, 4, 5, 6, 7] * 2


@pytest.mark.parametrize("name", ["short-gops.mp4", "open-gop.mkv", "mpeg2.ts"])
def test_files_too_large_to_keep_are_demuxed_twice(tmp_path, monkeypatch, name):
    _, codec, options, pixel_format = next(encoding for encoding in ENCODINGS if encoding[0] == name)
    path = numbered_video(tmp_path / name, COUNT, codec=codec, options=options, pixel_format=pixel_format)
    kept = decode_video(path, size=64)
    monkeypatch.setattr("shardify.video.timeline.KEPT_BYTES", 100)
    again = decode_video(path, size=64)
    assert again.info == kept.info
    assert np.array_equal(again.clips[0].frames, kept.clips[0].frames)
