"""Opening what nobody vouches for: every bad input is one VideoError with a reason, at once."""

import os
import re
import struct
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from media import numbered_picture, numbered_video, write_video

from shardify.errors import VideoError
from shardify.video.decode import decode_video


def refusal(path) -> str:
    """The reason for which a path is refused; one line."""
    with pytest.raises(VideoError) as caught:
        decode_video(path)
    reason = str(caught.value)
    assert reason and "\n" not in reason and len(reason) < 200
    return reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"hello, this is no video\n" * 50, "not a video"),
        (b"\0" * 5000, "not a video"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "not a video"),
        (b"YUV4MPEG2 W0 H0 F25:1 Ip A0:0 C420jpeg\nFRAME\n", "size"),
        (b"YUV4MPEG2 W9000 H9000 F25:1 Ip A0:0 C420jpeg\nFRAME\n" + b"\0" * 100, "too large: 9000×9000"),
    ],
    ids=["empty", "text", "zeros", "picture", "zero size", "too large"],
)
def test_files_that_hold_no_video(tmp_path, content, reason):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    assert reason in refusal(path)


@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{target}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{target}'\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
        "a=rtpmap:96 H264/90000\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><BaseURL>{target}</BaseURL>'
        "</Period></MPD>",
    ],
    ids=["playlist", "network playlist", "concat script", "session description", "DASH manifest"],
)
@pytest.mark.parametrize("name", ["a.mp4", "a.m3u8", "a.ts"])
def test_files_that_name_other_files_reach_nothing(tmp_path, content, name):
    target = numbered_video(tmp_path / "target.ts", 10)
    path = tmp_path / name
    path.write_text(content.format(target=target))
    assert "not a video" in refusal(path)


def test_the_external_tracks_of_a_quicktime_file_are_not_followed(tmp_path):
    """A mov whose data reference is an alias to another file."""
    data = bytearray(numbered_video(tmp_path / "a.mov", 10).read_bytes())
    at = data.index(b"dref")
    data[at + 12 : at + 24] = struct.pack(">I4sI", 12, b"alis", 0)
    (tmp_path / "b.mov").write_bytes(data)
    refusal_or_frames = None
    try:
        refusal_or_frames = decode_video(tmp_path / "b.mov").info.num_frames
    except VideoError:
        return
    assert refusal_or_frames == 10  # read from the file itself


def test_names_of_protocols_are_only_names(tmp_path, monkeypatch):
    numbered_video(tmp_path / "a.ts", 10)
    monkeypatch.chdir(tmp_path)
    for name in (
        "concat:a.ts|a.ts",
        "file:a.ts",
        "http://127.0.0.1:9/a.ts",
        "subfile,,start,0,end,0,,:a.ts",
        "a\0b",
    ):
        assert "cannot be opened" in refusal(name)


def test_things_that_are_no_regular_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "nothing.mp4")
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    assert "pipe" in refusal(tmp_path / "pipe.mp4")
    assert "folder" in refusal(tmp_path / "folder.mp4")
    assert "device" in refusal("/dev/zero")
    assert "cannot be opened" in refusal(tmp_path / "dangling.mp4")
    assert "cannot be opened" in refusal(tmp_path / "loop.mp4")
    assert "cannot be opened" in refusal(tmp_path / "missing.mp4")


@pytest.mark.parametrize(
    ("formats", "content"),
    [
        (
            "sdp,rtp,rtsp",
            "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
            "a=rtpmap:96 H264/90000\n",
        ),
        ("concat,mpegts", "ffconcat version 1.0\nfile target.ts\n"),
    ],
    ids=["network", "file"],
)
def test_protocols_are_closed_to_formats_that_name_some(tmp_path, monkeypatch, formats, content):
    """The second wall behind the list of formats, alone: one of these would listen, the other open a file."""
    numbered_video(tmp_path / "target.ts", 10)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").write_text(content)
    monkeypatch.setattr("shardify.video.container.FORMAT_WHITELIST", formats)
    assert refusal(tmp_path / "a.mp4") == "not a video, but a picture, playlist or other kind of file"


def test_links_to_videos_are_followed(tmp_path):
    numbered_video(tmp_path / "a.mp4", 5)
    (tmp_path / "link.mp4").symlink_to(tmp_path / "a.mp4")
    assert decode_video(tmp_path / "link.mp4").info.num_frames == 5


def test_a_file_without_permission(tmp_path):
    path = numbered_video(tmp_path / "a.mp4", 5)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert "cannot be opened" in refusal(path)


def test_sound_only(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(path, "w") as container:
        _add_sound(container)
    assert refusal(path) == "no video stream, only audio"


def test_sound_with_a_cover_picture(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(path, "w") as container:
        cover = container.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        _add_sound(container, lambda: container.mux(cover.encode(av.VideoFrame.from_ndarray(numbered_picture(1)))))
    assert refusal(path) == "no video stream, only a cover picture"


def _add_sound(container, before=lambda: None):
    sound = container.add_stream("aac", rate=8000)
    sound.layout = "mono"
    before()
    for i in range(4):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = 8000, 1024 * i
        container.mux(sound.encode(frame))
    container.mux(sound.encode(None))


@pytest.mark.parametrize(("name", "actual"), [("a.avi", "mp4"), ("a.mp4", "matroska"), ("a.mp4", "mpegts")])
def test_a_wrong_extension_does_not_matter(tmp_path, name, actual):
    path = numbered_video(tmp_path / name, 20, container_format=actual)
    assert decode_video(path).info.num_frames == 20


def test_an_unknown_codec(tmp_path):
    path = numbered_video(tmp_path / "a.mp4", 5)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    assert refusal(path) == "no decoder for its video codec"


def test_an_encrypted_video(tmp_path):
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb"}
    key["encryption_kid"] = "a7e61c373e219033c21091fa607bf3b8"
    path = numbered_video(tmp_path / "a.mp4", 20, container_options=key)
    assert "encrypted" in refusal(path)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        # A secret, then the protection's kind, the key's and the licence's address, each after its length.
        ("fbb3112223bdd211b4b700a0c955fc6e", [b"secret", b"DRM\0", b"key\0", b"http://licence\0"]),
        ("14e68a292226174cb935dae07ee9289c", [b"<WRMHEADER/>"]),  # extended content encryption
    ],
)
def test_a_protected_wmv(tmp_path, kind, content):
    """An ASF object is 16 bytes of its kind and 8 of its size; the header object then counts its objects."""
    path = numbered_video(tmp_path / "a.wmv", 10, codec="wmv2")
    data = bytearray(path.read_bytes())
    body = b"".join(len(part).to_bytes(4, "little") + part for part in content)
    protection = bytes.fromhex(kind) + (24 + len(body)).to_bytes(8, "little") + body
    data[16:24] = (int.from_bytes(data[16:24], "little") + len(protection)).to_bytes(8, "little")
    data[24:28] = (int.from_bytes(data[24:28], "little") + 1).to_bytes(4, "little")
    data[30:30] = protection
    path.write_bytes(data)
    assert refusal(path) == "encrypted, and can only be played with its key"


def test_a_tag_that_says_nothing_of_protection(tmp_path):
    """Any program may write a tag of that name into an mp4."""
    tagged = {"movflags": "use_metadata_tags"}
    path = numbered_video(tmp_path / "a.mp4", 10, container_options=tagged, tags={"encryption": "none"})
    with av.open(path) as container:
        assert container.metadata["encryption"] == "none"
    assert decode_video(path).info.num_frames == 10


def test_a_file_without_a_decodable_frame(tmp_path):
    path = numbered_video(tmp_path / "a.mp4", 20)
    data = bytearray(path.read_bytes())
    begin = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    data[begin:end] = bytes(end - begin)
    path.write_bytes(data)
    assert "no frame can be decoded" in refusal(path)


@pytest.mark.parametrize(("size", "reason"), [((60000, 60000), "too large: 60000×60000"), ((0, 0), "not a video")])
def test_impossible_sizes(tmp_path, size, reason):
    path = numbered_video(tmp_path / "a.gif", 3, codec="gif", pixel_format="rgb8")
    data = bytearray(path.read_bytes())
    data[6:10] = struct.pack("<HH", *size)
    path.write_bytes(data)
    assert reason in refusal(path)


def test_a_video_that_spans_too_long_a_time(tmp_path):
    """Of too many frames: see test_packets."""
    seldom = [i * 100_000_000 for i in range(5)]
    path = numbered_video(tmp_path / "a.mkv", 5, times=seldom, time_base=Fraction(1, 1000))
    assert re.fullmatch(r"too long: its frames span 1\d\d hours, more than 100", refusal(path))
    path = numbered_video(tmp_path / "a.avi", 5, rate=Fraction(1, 86400), options={"bf": "2"})
    assert refusal(path) == "too long: its frames span 120 hours, more than 100"


def test_text_that_is_no_unicode_in_the_metadata(tmp_path):
    path = tmp_path / "a.mkv"
    write_video(path, (numbered_picture(i) for i in range(4)), rate=Fraction(25), tags={"title": "XXXX"})
    path.write_bytes(path.read_bytes().replace(b"XXXX", b"\xff\xfe\xff\xfe"))
    assert decode_video(path).info.num_frames == 4


def giant_units(columns, rows):
    """An H.264 stream of one picture of that many macroblocks, by its headers; nearly no data."""

    def number(value):  # Exp-Golomb
        return f"{value + 1:b}".zfill(2 * (value + 1).bit_length() - 1)

    def unit(head, bits):
        bits += "1" + "0" * (-(len(bits) + 1) % 8)
        return b"\0\0\0\1" + head + int(bits, 2).to_bytes(len(bits) // 8, "big")

    size = number(columns - 1) + number(rows - 1)
    sequence = number(0) * 2 + number(2) + number(1) + "0" + size + "1100"
    picture = number(0) * 2 + "00" + number(0) * 3 + "000" + number(0) * 3 + "000"
    return unit(b"\x67\x42\0\x33", sequence) + unit(b"\x68", picture) + unit(b"\x65", "1" * 4000)


MEASURE = """
import resource, sys
from pathlib import Path
from shardify.build.job import Job
from shardify.build.encode import make_samples
from shardify.format.settings import BuildSettings
def outcome(path):
    job = Job(Path(path), path, "key", "train", {"class": 0}, {"class": "real"}, 0.0, "")
    try:
        return make_samples(job, BuildSettings())[0].row["status"]
    except Exception as error:
        return f"{type(error).__name__}: {error}"
outcome(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(outcome(sys.argv[2]))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize(
    ("begins_small", "expected"), [(False, "VideoError: its pictures are too large: 16384×16368 pixels"), (True, "ok")]
)
def test_giant_pictures_take_no_memory(tmp_path, begins_small, expected):
    """The whole way of a build; one frame of that size is 384 MiB. In the second file it comes after good ones."""
    small = numbered_video(tmp_path / "small.h264", 20)
    path = tmp_path / "giant.mp4"
    path.write_bytes(small.read_bytes() * begins_small + giant_units(1024, 1023) * 3)
    command = [sys.executable, "-c", MEASURE, small, path]
    reason, mebibytes = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert reason == expected
    assert int(mebibytes) < 100
