"""Which packets are decoded for which frames, on streams drawn on paper; which packets can begin one."""

from itertools import pairwise

import av
import pytest
from media import numbered_video

from shardify.entry import holds_one_picture, is_entry_point
from shardify.packets import PacketTimes, Timeline, demux, entry_test, packet_runs, read_timeline
from shardify.probe import open_video


def timeline(drawing):
    """From "I0 P3 B1 B2": decoding order, letters, presentation times; I is an entry, X is discarded."""
    packets, entries = [], []
    for i, word in enumerate(drawing.split()):
        packets.append(PacketTimes(int(word[1:]), i, 1, word[0] == "X", False))
        if word[0] == "I":
            entries.append(i)
    return Timeline(packets, entries, sorted(packet.pts for packet in packets if not packet.is_discard), 1)


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
        ("I0 X1 P2 P3", {2}, [(0, 3)]),
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


ANNEX_B = b"\0\0\0\1"
SPS, IDR, SLICE, SEI = b"\x67\x42", b"\x65\x88\x80", b"\x41\x9a\x80", b"\x06"
HEVC_AUD, HEVC_CRA, HEVC_TRAIL = b"\x46\x01\x50", b"\x2a\x01\x80", b"\x02\x01\x80"


def units(*parts, prefix=4):
    return b"".join((len(part).to_bytes(prefix, "big") if prefix else ANNEX_B) + part for part in parts)


def key_packet(data):
    packet = av.Packet(data)
    packet.pts, packet.is_keyframe = 0, True
    return packet


AVCC, HVCC = bytes([1, 0, 0, 0, 0xFF]), bytes([1] + [0] * 20 + [3])


@pytest.mark.parametrize(
    ("data", "codec", "extradata", "expected"),
    [
        (units(SPS, IDR), "h264", AVCC, True),
        (units(SPS, IDR, prefix=2), "h264", bytes([1, 0, 0, 0, 0xFD]), True),
        (units(SPS, IDR, prefix=0), "h264", b"", True),
        (units(SPS, SLICE), "h264", AVCC, False),  # called a key frame, but later pictures may look back
        (units(SEI + b"\x06\x01\xc4\x80", SLICE), "h264", AVCC, True),  # recovery point: at once
        (units(SEI + b"\x06\x01\x44\x80", SLICE), "h264", AVCC, False),  # recovery point: later
        (units(SEI + b"\x05\x02\0\0\x06\x01\xc4\x80", SLICE, prefix=0), "h264", b"", True),  # second message
        (units(SEI, SLICE), "h264", AVCC, False),
        (b"", "h264", AVCC, False),
        (units(HEVC_AUD, HEVC_CRA), "hevc", HVCC, True),
        (units(HEVC_AUD, HEVC_TRAIL), "hevc", HVCC, False),
        (b"\0\0\1\xb3\0\0\0\0\1\0\0\x08\0", "mpeg2video", b"", True),
        (b"\0\0\1\0\0\x10\0", "mpeg2video", b"", False),
        (b"\0\0\1\xb6\x10", "mpeg4", b"", True),
        (b"\0\0\1\xb6\x50", "mpeg4", b"", False),
        (b"anything", "vp9", b"", True),
        (b"anything", "indeo3", b"", False),
    ],
)
def test_entry_points_are_read_from_the_bitstream(data, codec, extradata, expected):
    packet = key_packet(data)
    assert is_entry_point(packet, codec, extradata) is expected
    packet.is_keyframe = False
    assert not is_entry_point(packet, codec, extradata)


@pytest.mark.parametrize(
    ("data", "codec", "expected"),
    [
        (b"\0\0\1\0\0\x10\0\0\0\0", "mpeg2video", True),
        (b"\0\0\1\xb7", "mpeg2video", False),  # end of sequence
        (b"\0\0\1\xb6\x10" + b"\1" * 20, "mpeg4", True),
        (b"\0\0\1\xb6\x10\1\1\0\0\1\xb6\x90\1\1\1", "mpeg4", False),  # two packed into one
        (b"\0\0\1\xb6\x50\1\1", "mpeg4", False),  # the empty one after it
        (b"x", "h264", True),
    ],
)
def test_packets_without_exactly_one_picture(data, codec, expected):
    assert holds_one_picture(av.Packet(data), codec) is expected


@pytest.mark.parametrize(
    ("name", "codec", "options", "every"),
    [
        ("a.mp4", "libx264", {"g": "10", "sc_threshold": "0"}, 10),
        ("a.ts", "libx264", {"g": "10", "sc_threshold": "0", "x264-params": "open-gop=1"}, 10),
        ("a.mp4", "libx265", {"x265-params": "keyint=10:min-keyint=10:scenecut=0:log-level=none"}, 10),
        ("a.ts", "mpeg2video", {"g": "10", "bf": "2", "sc_threshold": "1000000000"}, 10),
        ("a.mp4", "mpeg4", {"g": "10", "sc_threshold": "1000000000"}, 10),
    ],
)
def test_real_entry_points(tmp_path, name, codec, options, every):
    path = numbered_video(tmp_path / name, 60, codec=codec, options=options)
    with open_video(path) as video, video.demuxer() as stream:
        packets = list(demux(stream))
        begins = [i for i, packet in enumerate(packets) if entry_test(stream)(packet)]
    assert begins[0] == 0
    assert 60 // every <= len(begins) <= 60 // every + 1


def test_large_files_keep_times_only(tmp_path, monkeypatch):
    path = numbered_video(tmp_path / "a.mkv", 60, options={"bf": "2"})
    with open_video(path) as video, video.demuxer() as stream:
        kept = read_timeline(video, stream)
    monkeypatch.setattr("shardify.packets.KEPT_BYTES", 100)
    with open_video(path) as video, video.demuxer() as stream:
        listed = read_timeline(video, stream)
    assert kept.kept and not listed.kept
    assert (kept.times, kept.entries, kept.last_duration) == (
        listed.times,
        listed.entries,
        listed.last_duration,
    )
