import dataclasses
import json
import os
import sys

import numpy as np
import pytest
from builds import SMALL, make_job, make_videos
from media import numbered_video

from shardify.build import encode
from shardify.build.encode import make_samples
from shardify.build.job import failed_row
from shardify.build.remote.sources import LOCAL
from shardify.errors import VideoError
from shardify.format.index import sha256
from shardify.format.members import members_of
from shardify.format.members.array import decode_array
from shardify.format.settings import BuildSettings
from shardify.video.decode import decode_clips


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("videos"), ["one.mp4"]) / "one.mp4"


def test_members_and_row_agree(video):
    (one,) = make_samples(make_job(video, label=1), BuildSettings(**SMALL))
    record = json.loads(one.members["json"])
    assert list(one.members) == ["cls", "jpg", "json"] and one.members["cls"] == b"1"
    assert members_of(BuildSettings(**SMALL))["frames"].decode(one.members["jpg"]).shape == (4, 32, 32, 3)
    assert record["payload_sha256"] == one.row["payload_sha256"] == sha256(one.members["jpg"])
    assert one.row["record_sha256"] == sha256(one.members["json"])
    assert (record["source"], record["source_bytes"]) == ("one.mp4", video.stat().st_size)
    assert len(record["pts_seconds"]) == len(record["frame_index"]) == record["frames"] == 4


def test_every_field_of_version_2_is_in_the_record(video):
    (one,) = make_samples(make_job(video, label=1), BuildSettings(**SMALL))
    record = json.loads(one.members["json"])
    assert (record["labels"], record["classes"]) == ({"class": 1}, {"class": "real"})
    assert record["box"] == [0.0, 0.0, 32.0, 32.0]
    empty = {name: record[name] for name in ("kind", "original", "faces", "face_score")}
    assert empty == {"kind": "", "original": "", "faces": 0, "face_score": 0.0}
    assert (one.row["label.class"], one.row["kind"], one.row["original"]) == (1, "", "")
    assert not any(value is None for value in record.values())


def test_the_box_in_the_record_is_what_was_cut(video):
    box = (-4.0, 8.0, 20.0, 100.0)
    (one,) = make_samples(dataclasses.replace(make_job(video), box=box), BuildSettings(**SMALL))
    assert json.loads(one.members["json"])["box"] == [0.0, 8.0, 16.0, 24.0]


def test_sizes_that_are_no_multiple_of_8_are_padded_in_the_sheet_alone(video):
    settings = BuildSettings(**SMALL | {"size": 30})
    (one,) = make_samples(make_job(video), settings)
    (whole,) = make_samples(make_job(video), dataclasses.replace(settings, codec="raw"))
    frames, exact = (members_of(each)["frames"] for each in (settings, dataclasses.replace(settings, codec="raw")))
    decoded = frames.decode(one.members["jpg"]).astype(int)
    assert frames.stored_shape == (64, 64, 3) and decoded.shape == (4, 30, 30, 3)
    assert np.abs(decoded - exact.decode(whole.members["npy"])).mean() < 3


def test_what_is_known_of_the_pictures_is_in_the_record(tmp_path):
    path = numbered_video(tmp_path / "a.mp4", 3, codec="libx265", context={"color_trc": 16}, mirrored=True)
    (one,) = make_samples(make_job(path), BuildSettings(**SMALL))
    record = json.loads(one.members["json"])
    assert record["frame_index"] == [0, 1, 1, 2]
    assert (record["hdr"], record["mirrored"], record["repeated_frames"]) == ("pq", True, 1)
    assert (one.row["hdr"], one.row["repeated_frames"], one.row["decode_errors"]) == ("pq", 1, 0)


@pytest.mark.parametrize("box", [(500, 0, 9, 9), (-50, -50, 20, 20)])
def test_a_box_outside_the_picture_is_a_reason(video, box):
    with pytest.raises(VideoError, match=r"^its box lies outside the picture$"):
        make_samples(dataclasses.replace(make_job(video), box=box), BuildSettings(**SMALL))


def test_a_source_is_opened_once(video):
    opened = []
    sys.addaudithook(lambda event, values: opened.append(str(values[0])) if event == "open" else None)
    (one,) = make_samples(make_job(video), BuildSettings(**SMALL))
    assert opened.count(str(video)) == 1
    assert one.row["source_fingerprint"] == LOCAL.fingerprint(video, video.stat().st_size, whole=False)


def test_clips_have_keys_of_their_own(video):
    samples = make_samples(make_job(video), BuildSettings(**SMALL, clips=3))
    assert [one.key[-4:] for one in samples] == ["-000", "-001", "-002"]
    assert [json.loads(one.members["json"])["clip"] for one in samples] == [0, 1, 2]
    assert all(len(one.key) <= 80 for one in samples)


def test_raw_payload_is_the_frames(video):
    (one,) = make_samples(make_job(video), BuildSettings(**SMALL, codec="raw"))
    assert decode_array(one.members["npy"]).shape == (4, 32, 32, 3)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "No such file or directory"),
        (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
        (os.mkfifo, "not a regular file"),
        (os.mkdir, "not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (lambda path: path.touch(), "empty"),
        (lambda path: path.write_bytes(b"\0" * 5000), "not a video"),
    ],
)
def test_reasons_are_short_and_name_no_folder_of_this_machine(tmp_path, make, reason):
    path = tmp_path / "a.mp4"
    make(path)
    with pytest.raises(VideoError, match=reason) as caught:
        make_samples(make_job(path), BuildSettings(**SMALL))
    assert str(tmp_path) not in str(caught.value)


def test_source_that_grows_while_it_is_read(video, tmp_path, monkeypatch):
    path = tmp_path / "grows.mp4"
    path.write_bytes(video.read_bytes())

    def decode_and_append(*args, **options):
        decoded = decode_clips(*args, **options)
        with path.open("ab") as file:
            file.write(b"more")
        return decoded

    monkeypatch.setattr(encode, "decode_clips", decode_and_append)
    with pytest.raises(VideoError, match="changed while it was read"):
        make_samples(make_job(path), BuildSettings(**SMALL))


def test_fingerprint_sees_the_beginning_middle_end_and_size(tmp_path):
    path = tmp_path / "long.mp4"
    content = bytearray(8 << 20)
    path.write_bytes(content)
    seen = {LOCAL.fingerprint(path, len(content), whole=False)}
    for place in (0, 4 << 20, (8 << 20) - 1):
        changed = content.copy()
        changed[place] = 1
        path.write_bytes(changed)
        seen.add(LOCAL.fingerprint(path, len(content), whole=False))
    path.write_bytes(content + b"\0")
    seen.add(LOCAL.fingerprint(path, len(content) + 1, whole=False))
    assert len(seen) == 5


def test_full_hash_is_the_sha256_of_the_file(video):
    (one,) = make_samples(make_job(video), BuildSettings(**SMALL, full_hash=True))
    assert one.row["source_fingerprint"] == sha256(video.read_bytes())


def test_failed_row_is_one_line(tmp_path):
    row = failed_row(make_job(tmp_path / "gone.mp4"), "two\nlines  of\ttext")
    assert row["error"] == "two lines of text"
    assert (row["status"], row["source_bytes"]) == ("failed", "")
