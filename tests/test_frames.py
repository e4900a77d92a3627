"""The quick way and the thorough way: the same pictures, and each rule that keeps them the same."""

from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from media import (
    continued_video,
    joined_videos,
    noisy_picture,
    numbered_picture,
    numbered_video,
    read_number,
    write_video,
)

from shardify.decode import decode_video
from shardify.frames import Request, take_by_counting, take_by_time
from shardify.packets import packet_runs, read_timeline
from shardify.pictures import PictureMaker
from shardify.probe import open_video

COUNT = 101
PYRAMID = "open-gop=1:b-pyramid=normal:bframes=3:b-adapt=0:scenecut=0:keyint=20"
HEVC_OPEN = "open-gop=1:keyint=12:min-keyint=12:bframes=3:b-adapt=0:scenecut=0:log-level=none"
JUMPED = [
    ("open.mkv", "libx264", {"x264-params": PYRAMID}),
    ("interval.mp4", "libx264", {"g": "12", "bf": "3"}),
    ("open-hevc.ts", "libx265", {"x265-params": HEVC_OPEN}),
    ("open-hevc.mp4", "libx265", {"x265-params": HEVC_OPEN}),
    ("open.ts", "mpeg2video", {"g": "12", "bf": "2"}),
    ("open.mpg", "mpeg1video", {"g": "12", "bf": "2"}),
    ("interval4.mp4", "mpeg4", {"g": "12", "bf": "2"}),
    ("vp8.webm", "libvpx", {"g": "12"}),
    ("vp9.webm", "libvpx-vp9", {"g": "12"}),
    ("av1.mkv", "libsvtav1", {"g": "12"}),
    ("ffv1.mkv", "ffv1", {"g": "12"}),
]


def request(frames=16, clips=1, stride=None):
    return Request(frames, clips, stride, PictureMaker(64))


def quick(path, wanted):
    with open_video(path) as video:
        return take_by_time(video, wanted)


def thorough(path, wanted):
    with open_video(path) as video:
        return take_by_counting(video, wanted)


def runs_of(path, wanted):
    """The runs of packets that the quick way decodes."""
    with open_video(path) as video, video.demuxer() as stream:
        timeline = read_timeline(video, stream)
    plan = wanted.plan(timeline.times, timeline.last_duration)
    return packet_runs(timeline, {timeline.times[number] for clip in plan for number in clip})


def assert_same(one, other):
    assert (one.plan, one.times, one.last_duration) == (other.plan, other.times, other.last_duration)
    assert one.info == other.info
    assert one.pictures.keys() == other.pictures.keys()
    assert all(np.array_equal(one.pictures[number], other.pictures[number]) for number in one.pictures)


def is_numbered_as_planned(taken, offset=0):
    return all(read_number(picture) == number + offset for number, picture in taken.pictures.items())


@pytest.mark.parametrize(("name", "codec", "options"), JUMPED, ids=[name for name, _, _ in JUMPED])
def test_groups_without_a_wanted_picture_are_jumped_and_nothing_changes(tmp_path, name, codec, options):
    path = numbered_video(tmp_path / name, COUNT, codec=codec, options=options, picture=noisy_picture)
    for frames, stride in ((1, None), (2, None), (3, None), (3, 2), (2, 30)):
        wanted = request(frames, 1, stride)
        runs = runs_of(path, wanted)
        assert runs[0][0] > 0 or any(stop < start for (_, stop), (start, _) in pairwise(runs))
        with open_video(path) as video:
            taken = take_by_time(video, wanted)
            assert not video.logs  # no picture is decoded whose references were jumped
        assert taken.errors == 0
        assert is_numbered_as_planned(taken)
        assert_same(taken, thorough(path, wanted))


@pytest.mark.parametrize(
    ("codec", "options", "head_bytes"),
    [("libx264", {"bf": "3"}, 8), ("libx265", {}, 8), ("mpeg2video", {"bf": "2"}, 40)],
)
def test_pictures_that_nothing_refers_to_are_not_decoded(tmp_path, codec, options, head_bytes):
    """Damage in one of them goes unseen, and changes nothing."""
    path = numbered_video(tmp_path / "a.mkv", 60, codec=codec, options=options, picture=noisy_picture)
    wanted = request(4)
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.skip_frame, stream.codec_context.thread_count = "NONREF", 1
        kept = {frame.pts for packet in container.demux(stream) for frame in stream.codec_context.decode(packet)}
    sound = quick(path, wanted)
    left_out = set(sound.times) - kept - {sound.times[number] for number in sound.pictures}
    assert len(left_out) > 10
    with av.open(path) as container:
        packets = [(bytes(packet), packet.pts) for packet in container.demux(video=0) if packet.size]
    data = path.read_bytes()
    for content, pts in packets:
        if pts in left_out:
            data = data.replace(content, content[:head_bytes] + b"\xff" * (len(content) - head_bytes))
    (tmp_path / "b.mkv").write_bytes(data)
    assert_same(quick(tmp_path / "b.mkv", wanted), sound)
    assert thorough(tmp_path / "b.mkv", wanted).errors > 0


def test_a_lower_layer_of_hevc_is_decoded_for_the_higher_one(tmp_path):
    """Every second picture is of a higher sub-layer, and the one before it is marked as referred to by none."""
    options = {"bf": "0", "x265-params": "bframes=0:keyint=3:min-keyint=3:open-gop=0:scenecut=0:ref=1:log-level=none"}
    path = numbered_video(tmp_path / "a.mkv", 90, codec="libx265", options=options, picture=noisy_picture)
    with av.open(path) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data = path.read_bytes()
    for i, content in enumerate(packets):
        assert content[4] >> 1 & 63 == (1 if i % 3 else 20)  # length, then TRAIL_R or IDR_N_LP after parameter sets
        layered = bytes([0 if i % 3 == 1 else 2, 1 if i % 3 == 1 else 2])  # TRAIL_N of layer 0, TRAIL_R of layer 1
        data = data.replace(content, content[:4] + layered + content[6:]) if i % 3 else data
    path.write_bytes(data)
    taken = quick(path, request(11))
    assert any(number % 3 == 2 for number in taken.pictures)
    assert is_numbered_as_planned(taken)
    assert_same(taken, thorough(path, request(11)))


def test_a_lost_picture_that_is_only_missed_later_is_damage(tmp_path):
    """One that others refer to, taken out cleanly; where nothing was jumped, missing it counts."""
    options = {"x264-params": PYRAMID.replace("keyint=20", "keyint=99")}
    whole = numbered_video(tmp_path / "whole.mkv", 60, options=options, picture=noisy_picture)
    with av.open(whole) as source, av.open(tmp_path / "cut.mkv", "w") as target:
        video = source.streams.video[0]
        stream = target.add_stream_from_template(video)
        for i, packet in enumerate(packet for packet in source.demux(video) if packet.size):
            if i != 6:  # the middle one of three B pictures
                packet.stream = stream
                target.mux(packet)
    assert decode_video(tmp_path / "cut.mkv").decode_errors > 0


def test_times_that_run_against_the_display_are_not_believed(tmp_path):
    """Decoding times where presentation times should be, as some muxers write; only the last are right."""
    whole = numbered_video(
        tmp_path / "whole.mp4", 60, options={"bf": "2", "g": "60", "x264-params": "b-adapt=0:scenecut=0"}
    )
    with av.open(whole) as source, av.open(tmp_path / "a.mp4", "w") as target:
        video = source.streams.video[0]
        stream = target.add_stream_from_template(video)
        for i, packet in enumerate(packet for packet in source.demux(video) if packet.size):
            packet.stream = stream
            packet.dts += 2 * packet.duration  # else the first two would be hidden
            packet.pts = packet.dts if i < 50 else packet.pts + 2 * packet.duration
            target.mux(packet)
    assert quick(tmp_path / "a.mp4", request()) is None
    taken = thorough(tmp_path / "a.mp4", request())
    assert is_numbered_as_planned(taken)


@pytest.mark.parametrize(("last", "seconds"), [(5, 64 / 30), (1, 2)])
def test_the_last_frame_lasts_as_long_as_its_packet_says(tmp_path, last, seconds):
    whole = numbered_video(tmp_path / "whole.mp4", 60, options={"bf": "0"})
    with av.open(whole) as source, av.open(tmp_path / "a.mp4", "w") as target:
        video = source.streams.video[0]
        stream = target.add_stream_from_template(video)
        for i, packet in enumerate(packet for packet in source.demux(video) if packet.size):
            packet.stream, packet.duration = stream, packet.duration * (last if i == 59 else 1)
            target.mux(packet)
    for take in (quick, thorough):
        info = take(tmp_path / "a.mp4", request()).info
        assert info.duration_seconds == pytest.approx(seconds)
        assert info.fps == pytest.approx(60 / seconds)


def test_a_last_frame_of_unknown_duration_lasts_as_long_as_the_median(tmp_path):
    ticks = [0, 40, 80, 120, 200]
    path = numbered_video(tmp_path / "a.flv", 5, times=ticks, time_base=Fraction(1, 1000), options={"bf": "0"})
    taken = quick(path, request())
    assert taken.last_duration == 0
    assert taken.info.duration_seconds == pytest.approx(0.24)


def test_a_packet_that_is_cut_counts_even_where_its_decoder_is_content(tmp_path):
    path = numbered_video(tmp_path / "a.avi", 30, codec="huffyuv", pixel_format="yuv422p")
    with av.open(path) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][20]
    path.write_bytes(path.read_bytes()[: packet.pos + packet.size - 10])
    assert thorough(path, request()).errors == 2  # the packet, and the end of the file


def test_files_with_one_wrong_packet_are_decoded_whole(tmp_path):
    """A unit of no length, behind the last wanted picture: libav gives no frame for that packet."""
    path = numbered_video(tmp_path / "a.mp4", 60, options={"bf": "3"}, picture=noisy_picture)
    with av.open(path) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        wrong = min(packets[52:], key=lambda packet: packet.pts - packet.dts)
    data = bytearray(path.read_bytes())
    data[wrong.pos : wrong.pos + 4] = (wrong.size - 8).to_bytes(4, "big")
    data[wrong.pos + wrong.size - 4 : wrong.pos + wrong.size] = bytes(4)
    path.write_bytes(data)
    assert quick(path, request(2)) is None
    decoded = decode_video(path, frames=2)
    assert (decoded.info.num_frames, decoded.decode_errors > 0) == (59, True)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("reordered.avi", "libx264", {"bf": "2"}),
        ("reordered4.avi", "mpeg4", {"bf": "2"}),
        ("raw.h264", "libx264", {"bf": "2"}),
        ("interlaced.mp4", "libx264", {"x264-params": "interlaced=1"}),
    ],
)
@pytest.mark.parametrize("ticks", [None, [i * i for i in range(COUNT)]], ids=["constant", "variable"])
def test_the_thorough_way_alone(tmp_path, name, codec, options, ticks):
    if ticks and not name.endswith("mp4"):
        pytest.skip("this container has no times of its own")
    path = numbered_video(tmp_path / name, COUNT, codec=codec, options=options, times=ticks)
    assert quick(path, request()) is None
    taken = thorough(path, request())
    assert (len(taken.times), taken.errors) == (COUNT, 0)
    assert is_numbered_as_planned(taken)


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
