"""The quick way and the thorough way: the same pictures, and each rule that keeps them the same."""

from fractions import Fraction
from itertools import pairwise

import av
import pytest
from extracting import assert_same, is_numbered_as_planned, quick, request, runs_of, thorough
from media import (
    noisy_picture,
    numbered_video,
)

from shardify.video.container import open_video
from shardify.video.decode import decode_video
from shardify.video.extract import take_by_time

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
