"""At which packets decoding can begin, and which hold a whole picture: read from their bytes."""

import av
import pytest
from media import numbered_video

from shardify.video.container import open_video
from shardify.video.keyframes import holds_one_picture, is_entry_point, is_of_higher_layer
from shardify.video.timeline import demux, entry_test

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
        (units(b"\x42\x9a", IDR), "h264", AVCC, False),  # a data partition comes first
        (units(SEI + b"\x05\xff\x01" + bytes(256) + b"\x06\x01\x80\x80", SLICE), "h264", AVCC, True),  # long message
        (units(SEI + b"\xff\x01\x00\x06\x01\x80\x80", SLICE), "h264", AVCC, True),  # a type above 255
        (units(SEI + b"\x05\xff\xff\xff", SLICE), "h264", AVCC, False),  # breaks off in a size
        (units(SEI + b"\x06\x01", SLICE), "h264", AVCC, False),  # breaks off after it
        (units(SEI + b"\x05\x00\x06\x01", SLICE), "h264", AVCC, False),
        (units(HEVC_AUD, HEVC_CRA), "hevc", HVCC, True),
        (units(HEVC_AUD, HEVC_TRAIL), "hevc", HVCC, False),
        (b"\0\0\1\xb3\0\0\0\0\1\0\0\x08\0", "mpeg2video", b"", True),
        (b"\0\0\1\0\0\x10\0", "mpeg2video", b"", False),
        (b"\0\0\1\xb6\x10", "mpeg4", b"", True),
        (b"\0\0\1\xb6\x50", "mpeg4", b"", False),
        (b"\0\0\1\0\0", "mpeg2video", b"", False),  # breaks off in the header
        (b"\0\0\1\xb6", "mpeg4", b"", False),
        (b"no picture", "mpeg1video", b"", False),
        (b"no picture", "mpeg4", b"", False),
        (b"anything", "vp9", b"", True),
        (b"anything", "theora", b"", True),
        (b"anything", "indeo3", b"", False),
    ],
)
def test_entry_points_are_read_from_the_bitstream(data, codec, extradata, expected):
    packet = key_packet(data)
    assert is_entry_point(packet, codec, extradata) is expected
    packet.is_keyframe = False
    assert not is_entry_point(packet, codec, extradata)
    packet.is_keyframe, packet.pts = True, None
    assert not is_entry_point(packet, codec, extradata)


@pytest.mark.parametrize(
    ("data", "codec", "extradata", "expected"),
    [
        (b"\0\0\1\0\0\x10\0\0\0\0", "mpeg2video", b"", True),
        (b"\0\0\1\xb7", "mpeg2video", b"", False),  # end of sequence
        (b"\0\0\1\xb6\x10" + b"\1" * 20, "mpeg4", b"", True),
        (b"\0\0\1\xb6\x10\1\1\0\0\1\xb6\x90\1\1\1", "mpeg4", b"", False),  # two packed into one
        (b"\0\0\1\xb6\x50\1\1", "mpeg4", b"", False),  # the empty one after it
        (b"x", "vp9", b"", True),
        (units(SPS, IDR), "h264", AVCC, True),
        (units(SPS, IDR) + b"\0", "h264", AVCC, False),  # more than its units
        (units(SPS, IDR)[:-1], "h264", AVCC, False),  # less
        (units(SPS, b"", IDR), "h264", AVCC, False),  # an empty unit
        (units(SPS, IDR, prefix=2), "h264", bytes([1, 0, 0, 0, 0xFD]), True),
        (units(SPS, IDR, prefix=0) + b"\0", "h264", b"", True),  # start codes: nothing to check
        (units(HEVC_AUD, HEVC_TRAIL), "hevc", HVCC, True),
        (units(HEVC_AUD, HEVC_TRAIL)[:-1], "hevc", HVCC, False),
    ],
)
def test_packets_without_exactly_one_picture(data, codec, extradata, expected):
    assert holds_one_picture(av.Packet(data), codec, extradata) is expected


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


@pytest.mark.parametrize(
    ("data", "codec", "expected"),
    [
        (units(HEVC_AUD, HEVC_TRAIL), "hevc", False),
        (units(HEVC_AUD, b"\x02\x02\x80"), "hevc", True),
        (units(b"\x46\x02\x50", HEVC_TRAIL), "hevc", False),  # the slice counts, not what stands before it
        (units(b"\x02"), "hevc", False),
        (units(SPS, b"\x02\x02\x80"), "h264", False),
    ],
)
def test_higher_sub_layers(data, codec, expected):
    assert is_of_higher_layer(av.Packet(data), codec, HVCC) is expected
