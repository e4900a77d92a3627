"""What packets say about frames, and which are decoded for which, on made files and on streams drawn on paper."""

from fractions import Fraction
from itertools import pairwise
from types import SimpleNamespace

import av
import pytest
from media import changed_copy, joined_videos, noisy_picture, numbered_video, read_number

from shardify.errors import VideoError
from shardify.video.container import open_video
from shardify.video.decode import decode_video
from shardify.video.timeline import (
    BrokenOffError,
    FrameTimes,
    PacketTimes,
    Timeline,
    demux,
    joints,
    packet_runs,
    read_timeline,
    tell_frames,
    times_of_frames,
)


def timeline(drawing):
    """From "I0 P3 B1 B2": decoding order, letters, presentation times; I is an entry, X is discarded."""
    packets, entries = [], []
    for i, word in enumerate(drawing.split()):
        packets.append(PacketTimes(int(word[1:]), i, 1, word[0] == "X", False))
        if word[0] == "I":
            entries.append(i)
    return Timeline(packets, entries, sorted(packet.pts for packet in packets if not packet.is_discard), 1, True)


OPEN = "I0 P3 B1 B2 I6 B4 B5 P9 B7 B8 I12 B10 B11"
CLOSED = "I0 P3 B1 B2 I4 P7 B5 B6 I8 P11 B9 B10"


@pytest.mark.parametrize(
    ("drawing", "wanted", "runs"),
    [
        (CLOSED, {0}, [(0, 1)]),
        (CLOSED, {1}, [(0, 3)]),
        (CLOSED, {10}, [(8, 12)]),
        (CLOSED, {1, 3}, [(0, 3)]),
        (CLOSED, {2, 9}, [(0, 4), (8, 11)]),
        (CLOSED, {3, 4}, [(0, 2), (4, 5)]),
        (OPEN, {5}, [(0, 7)]),  # shown before I6, after which it comes: needs the group before
        (OPEN, {7}, [(4, 9)]),
        (OPEN, {6}, [(4, 5)]),
        (OPEN, {4, 6}, [(0, 6)]),
        (OPEN, {10, 1}, [(0, 3), (4, 12)]),
        (OPEN, {6, 10, 12}, [(4, 12)]),
        (CLOSED, {2, 4}, [(0, 4), (4, 5)]),  # neighbours stay apart: the decoder restarts at an entry
        ("I0 X1 P2 P3", {2}, [(0, 3)]),
        ("I0 X1 P1 P2", {1}, [(0, 3)]),  # hidden, at the same time as one that is shown
    ],
)
def test_runs_begin_where_everything_needed_is_decoded(drawing, wanted, runs):
    assert packet_runs(timeline(drawing), wanted) == runs


def test_runs_do_not_overlap_and_hold_what_is_wanted():
    drawn = timeline(OPEN)
    for first in drawn.times:
        for second in drawn.times:
            runs = packet_runs(drawn, {first, second})
            assert all(stop <= start for (_, stop), (start, _) in pairwise(runs))
            decoded = {drawn.packets[i].pts for start, stop in runs for i in range(start, stop)}
            assert {first, second} <= decoded


REORDERED, PLAIN = "I0 P3 B1 B2", "I0 P1 P2 P3"


def stream_like(codec="h264", container="mov,mp4", has_b_frames=True, field_order=1):
    context = SimpleNamespace(
        codec=SimpleNamespace(canonical_name=codec), field_order=field_order, has_b_frames=has_b_frames
    )
    return SimpleNamespace(codec_context=context, container=SimpleNamespace(format=SimpleNamespace(name=container)))


def shown_by(packets, stream):
    return tell_frames(stream, packets, [packet for packet in packets if not packet.is_discard])


@pytest.mark.parametrize(
    ("drawing", "stream", "expected"),
    [
        (REORDERED, {}, True),
        (REORDERED, {"container": "avi"}, False),  # no presentation times
        (PLAIN, {"container": "avi", "has_b_frames": False}, True),
        (PLAIN, {}, False),  # pictures are reordered, their times are not
        (PLAIN, {"has_b_frames": False}, True),
        ("I0 P2 P2 P3", {}, False),  # two at one time
        ("I0 X2 P2 P3", {}, True),
        ("I3 B1 B2 P6 B4 B5", {}, False),  # begins with pictures that refer to a lost one
        (REORDERED, {"field_order": 2}, False),  # a packet may be a field
        (REORDERED, {"field_order": 0}, True),
        (REORDERED, {"codec": "mpeg2video", "field_order": 2}, True),
    ],
)
def test_packets_tell_the_frames_or_not(drawing, stream, expected):
    assert shown_by(timeline(drawing).packets, stream_like(**stream)) is expected


@pytest.mark.parametrize("flaw", [{"pts": None}, {"is_corrupt": True}])
def test_one_flawed_packet_is_enough(flaw):
    packets = list(timeline(REORDERED).packets)
    assert shown_by(packets, stream_like())
    packets[2] = packets[2]._replace(**flaw)
    assert not shown_by(packets, stream_like())


@pytest.mark.parametrize(
    ("clock", "starts"),
    [
        ([0, 10, 20, 30, 40], []),
        ([0, 10, 20, 0, 10, 20, 30], [3]),
        ([500, 510, 520, 530, 3, 13, 23, 3, 13], [4, 7]),
        ([0, 10, 20, 30, 5, 50, 60], []),  # one false time, early
        ([0, 10, 900, 30, 40, 50], []),  # one false time, late
        ([0, 10, 20, 30, 40, 35, 45, 55], []),  # by less than two frames: a guess
        ([0, None, 20, None, 0, 10, None], [4]),
        ([0, 10, 20, "X0", "X10", 30], []),  # hidden by an edit list
    ],
)
def test_where_recordings_were_joined(clock, starts):
    hidden = [isinstance(dts, str) for dts in clock]
    clock = [int(dts[1:]) if isinstance(dts, str) else dts for dts in clock]
    packets = [PacketTimes(dts, dts, 10, *flags, False) for dts, *flags in zip(clock, hidden, strict=True)]
    assert joints(packets) == starts


FALSE_TIME = [(0, 0, 5), (10, 1, 6), (90, 2, 7), (30, 3, 8), *((10 * i, i, 5) for i in range(4, 20))]


@pytest.mark.parametrize(
    ("found", "starts", "stream", "times", "order", "last"),
    [
        # Presentation times as they are, in the order of frames.
        ([(0, 0, 5), (10, 1, 6), (20, 2, 7)], [], {}, [0, 10, 20], [0, 1, 2], 7),
        # One late frame among many: it is put where its time says. The last to be shown gives the last duration.
        (
            [(i, None, i + 100) for i in (0, 1, 2, 3, 4, 5, 6, 8, 7)],
            [], {},
            [0, 1, 2, 3, 4, 5, 6, 7, 8],
            [0, 1, 2, 3, 4, 5, 6, 8, 7],
            108,
        ),
        # Only H.264 is shown out of order, and never by guessed times.
        (FALSE_TIME, [], {"codec": "mpeg2video"}, list(range(20)), list(range(20)), 5),
        ([(0, 0, 5), *((i, i, 5) for i in range(2, 12)), (1, 12, 5)], [], {"container": "avi"},
         [0, *range(2, 13)], list(range(12)), 5),
        # More than one in eight: decoding times.
        ([(0, 0, 5), (20, 1, 5), (10, 2, 6)], [], {}, [0, 1, 2], [0, 1, 2], 6),
        # Some times are missing: decoding times, if they rise; else the frame rate, 40 ticks.
        ([(0, 3, 5), (None, 4, 5), (20, 9, 6)], [], {}, [3, 4, 9], [0, 1, 2], 6),
        ([(0, 3, 5), (None, 4, 5), (20, 4, 6)], [], {}, [0, 40, 80], [0, 1, 2], 40),
        ([(None, None, 0)] * 3, [], {}, [0, 40, 80], [0, 1, 2], 40),
        # Two recordings, the second from where the first ends: after its last frame's duration, or the usual step.
        ([(5, 0, 5), (10, 1, 6), (5, 0, 5), (10, 1, 7)], [2], {}, [5, 10, 16, 21], [0, 1, 2, 3], 7),
        ([(5, 0, 0), (10, 1, 0), (7, 0, 0), (12, 1, 0)], [2], {}, [5, 10, 15, 20], [0, 1, 2, 3], 0),
        ([(5, 0, 0), (5, 0, 0)], [1], {}, [5, 6], [0, 1], 0),
        # The usual step of the recording before, or of the last that has one.
        ([(0, 0, 0), (3, 1, 0), (0, 0, 0), (8, 1, 0), (0, 0, 0), (0, 0, 0)], [2, 4, 5], {},
         [0, 3, 6, 14, 22, 30], [0, 1, 2, 3, 4, 5], 0),
    ],
)  # fmt: skip
def test_times_of_decoded_frames(found, starts, stream, times, order, last):
    stream = stream_like(**stream)
    stream.guessed_rate, stream.time_base = Fraction(25), Fraction(1, 1000)
    found = [FrameTimes(*frame, packet) for packet, frame in enumerate(found)]
    assert times_of_frames(found, starts, stream) == (times, order, last)


def timeline_of(path):
    with open_video(path) as video, video.demuxer() as stream:
        return read_timeline(video, stream)


def test_a_codec_of_which_nothing_is_known_begins_at_its_first_packet_only(tmp_path):
    path = numbered_video(tmp_path / "a.wmv", 60, codec="wmv2", options={"g": "10"})
    assert timeline_of(path).entries == [0]
    late = changed_copy(path, tmp_path / "b.wmv", lambda number, packet: packet if number % 10 else None)
    assert timeline_of(late) is None


def test_a_stream_has_to_begin_where_decoding_can(tmp_path):
    """Called a key frame by its container, which its bitstream denies."""
    options = {"bf": "0", "g": "20", "sc_threshold": "0"}
    whole = numbered_video(tmp_path / "whole.mkv", 60, options=options)
    assert timeline_of(whole).entries == [0, 20, 40]

    def from_the_fifth(number, packet):
        packet.is_keyframe |= number == 5
        return packet if number >= 5 else None

    path = changed_copy(whole, tmp_path / "a.mkv", from_the_fifth)
    assert timeline_of(path) is None
    assert timeline_of(changed_copy(whole, tmp_path / "b.mkv", lambda n, p: p if n >= 5 else None)) is None
    assert decode_video(path).info.num_frames <= 55


def test_the_last_duration_is_that_of_the_frame_shown_last(tmp_path):
    ticks = [i * 40 + i * i for i in range(30)]
    path = numbered_video(tmp_path / "a.mp4", 30, times=ticks, time_base=Fraction(1, 1000), options={"bf": "3"})
    with av.open(path) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    last = max(packets, key=lambda packet: packet.pts)
    assert last is not packets[-1] and last.duration != packets[-1].duration
    assert timeline_of(path).last_duration == last.duration > 0


def test_joined_recordings_whose_times_are_all_different(tmp_path):
    """The second is half a frame off, and short: its times lie among those of the first."""
    writing = {"options": {"g": "10", "bf": "0"}, "time_base": Fraction(1, 1000)}
    first = joined_videos(tmp_path / "a.mkv", (0, 100), times=range(0, 4000, 40), **writing).read_bytes()
    path = joined_videos(tmp_path / "a.mkv", (100, 10), times=range(20, 420, 40), **writing)
    path.write_bytes(first + path.read_bytes())
    assert timeline_of(path) is None
    clip = decode_video(path, frames=110).clips[0]
    assert [read_number(picture) for picture in clip.frames] == list(range(110))


def test_a_file_that_hides_every_frame(tmp_path):
    """An edit list that begins behind the last frame."""
    whole = numbered_video(tmp_path / "whole.mp4", 30, options={"bf": "0", "g": "60"})
    data = bytearray(whole.read_bytes())
    at = data.index(b"elst") + 16  # after type, version, count and duration: the media time
    data[at : at + 4] = (1 << 30).to_bytes(4, "big")
    whole.write_bytes(data)
    with pytest.raises(VideoError, match="no frame can be decoded"):
        decode_video(whole)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.avi", "a.flv"])
@pytest.mark.parametrize("inside", [0, 1, 20, -20])
def test_a_file_that_breaks_off_says_so(tmp_path, name, inside):
    """Cut at the beginning of a packet, or so many bytes inside it or before it."""
    options = {"movflags": "faststart"} if name in ("a.mp4", "a.mov") else {}
    encoder = {"bf": "0", "g": "30"}
    path = numbered_video(tmp_path / name, 60, picture=noisy_picture, options=encoder, container_options=options)
    with av.open(path) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: packets[40].pos + inside])
    decoded = decode_video(path, size=64)
    assert 39 <= decoded.info.num_frames <= 41
    if options or name == "a.mkv" or (name == "a.avi" and inside > 0):  # libav says nothing of the others
        assert timeline_of(path) is None
        assert decoded.decode_errors > 0
        with pytest.raises(VideoError, match="--strict"):
            decode_video(path, strict=True)


def test_a_file_that_makes_no_sense_any_more_ends_there(tmp_path):
    path = numbered_video(tmp_path / "a.y4m", 10, codec="rawvideo")
    with path.open("ab") as file:
        file.write(b"no frame\n" * 5000)
    decoded = decode_video(path, size=64)
    assert (decoded.info.num_frames, decoded.decode_errors) == (10, 1)


def test_an_index_beyond_the_end_of_the_file_is_noticed(tmp_path):
    path = numbered_video(tmp_path / "a.mp4", 60, picture=noisy_picture, container_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[:-3000])
    with open_video(path) as video, video.demuxer() as stream, pytest.raises(BrokenOffError):
        list(demux(stream))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "reordered.avi"])
def test_too_many_packets_are_refused_whichever_way_they_are_read(tmp_path, monkeypatch, name):
    path = numbered_video(tmp_path / name, 30, options={"bf": "2" if name == "reordered.avi" else "0"})
    monkeypatch.setattr("shardify.video.timeline.MAX_PACKETS", 30)
    assert decode_video(path).info.num_frames == 30
    monkeypatch.setattr("shardify.video.timeline.MAX_PACKETS", 29)
    with pytest.raises(VideoError, match="too long: more than 29 frames"):
        decode_video(path)


def test_large_files_keep_times_only(tmp_path, monkeypatch):
    path = numbered_video(tmp_path / "a.mkv", 60, options={"bf": "2"})
    with open_video(path) as video, video.demuxer() as stream:
        kept = read_timeline(video, stream)
    monkeypatch.setattr("shardify.video.timeline.KEPT_BYTES", 100)
    with open_video(path) as video, video.demuxer() as stream:
        listed = read_timeline(video, stream)
    assert kept.kept and not listed.kept
    assert (kept.times, kept.entries, kept.last_duration) == (
        listed.times,
        listed.entries,
        listed.last_duration,
    )
