"""`load_model`: every kind of input gets the scores that its clips have in the shards."""

import csv
from collections import defaultdict

import av
import numpy as np
import pytest
import torch
from folders import build_shards, make_clips
from runs import run_small

from trainer import ClipLoader, load_model
from trainer.config.load import load_settings
from trainer.errors import SettingsError, TrainerError
from trainer.tasks import task_of


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Videos, shards with two clips of each, and a run on these."""
    folder = tmp_path_factory.mktemp("made")
    layout = {f"{split}/{name}": 2 for split in ("train", "val", "test") for name in "ab"}
    shards = build_shards(make_clips(folder / "data", layout), folder / "shards", clips=2)
    run_small(shards, folder / "run", "epochs=1", "batch_size=4")
    return folder


@pytest.fixture(scope="module")
def model(made):
    return load_model(str(made / "run"), device="cpu")


@pytest.fixture(scope="module")
def expected(made):
    """Each test video's path: the scores of its clips, from the shards."""
    scores = defaultdict(list)
    for row in csv.DictReader((made / "run/results/test_predictions.csv").open()):
        scores[str(made / "data" / row["source"])].append(float(row["score"]))
    assert len(scores) == 4 and all(len(set(of_clips)) == 2 for of_clips in scores.values())
    return scores


def check(prediction, of_clips):
    """The per-clip scores, and the video's mean of them."""
    assert prediction.clips == pytest.approx(of_clips, abs=1e-5)
    assert prediction.score == prediction.scores["b"] == pytest.approx(np.mean(of_clips), abs=1e-5)
    assert prediction.scores["a"] == pytest.approx(1 - prediction.score, abs=1e-5) and prediction.error == ""
    assert prediction.confidence == prediction.scores[prediction.class_name]


def frames_of(path):
    """uint8 (F, H, W, 3)"""
    with av.open(path) as video:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])


def test_a_file_a_folder_and_a_list(model, made, expected):
    path, *_, last = expected
    check(model.predict(path), expected[path])
    found = model.predict(made / "data" / "test")
    assert [prediction.source for prediction in found] == sorted(expected)
    for prediction in found:
        check(prediction, expected[prediction.source])
    found = model.predict([last, made / "data" / "test" / "a"])
    assert [prediction.source for prediction in found] == [last, *sorted(expected)[:2]]
    check(found[0], expected[last])
    assert model.predict([]) == []


def test_frames_of_a_decoder(model, expected):
    videos = {path: frames_of(path) for path in expected}
    assert {frames.shape for frames in videos.values()} == {(10, 32, 32, 3)}
    for path, frames in videos.items():
        prediction = model.predict(frames)
        check(prediction, expected[path])
        assert prediction.source == ""
    for prediction, path in zip(model.predict(np.stack(list(videos.values()))), videos, strict=True):
        check(prediction, expected[path])


def test_clips_of_the_shards_stay_as_they_are(model, made, expected):
    ((clips, _),) = ClipLoader(made / "shards", "test", batch_size=8, shuffle=False)
    clips = clips.permute(0, 1, 3, 4, 2)  # uint8 (B, T, S, S, 3)
    of_clips = [score for path in expected for score in expected[path]]
    assert [prediction.score for prediction in model.predict(clips.numpy())] == pytest.approx(of_clips, abs=1e-5)
    assert model.predict(clips[1]).clips == pytest.approx(of_clips[1:2], abs=1e-5)


def test_videos_go_through_the_model_together(model, expected):
    sizes = []
    with model.saved.model.register_forward_hook(lambda module, inputs, outputs: sizes.append(len(inputs[0]))):
        model.predict([*expected, *expected][:7])
    assert sizes == [4, 4, 4, 2], "clips of two videos at a time, as many as in training"


def test_what_cannot_be_read(model, tmp_path, expected):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(TrainerError, match=r"bad\.mp4: not a video"):
        model.predict(tmp_path / "bad.mp4")
    with pytest.raises(TrainerError, match="No such file"):
        model.predict(tmp_path / "missing.mp4")
    path = next(iter(expected))
    bad, good = model.predict([tmp_path / "bad.mp4", path])
    assert "not a video" in bad.error and (bad.class_name, bad.score, bad.confidence) == (None, None, None)
    check(good, expected[path])


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((5, 16, 16, 3), np.float32), r"array of float32 with shape \(5, 16, 16, 3\)"),
        (np.zeros((5, 3, 16, 16), np.uint8), r"shape \(5, 3, 16, 16\) is given; frames are uint8 \(T, H, W, 3\), RGB"),
        (np.zeros((16, 16, 3), np.uint8), r"shape \(16, 16, 3\)"),
        (np.zeros((0, 16, 16, 3), np.uint8), r"shape \(0, 16, 16, 3\)"),
        ([np.zeros((5, 16, 16, 3), np.uint8), np.zeros((6, 16, 16, 3), np.uint8)], "these frames are no array"),
        (7, r"array of int64 with shape \(\)"),
    ],
)
def test_what_is_no_video(model, frames, message):
    with pytest.raises(TrainerError, match=message):
        model.predict(frames)


def test_devices(made):
    with pytest.raises(SettingsError, match="device is 'gpu'; use auto, cpu or cuda"):
        load_model(made / "run", device="gpu")
    assert load_model(made / "run").device.type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_what_outputs_say_of_a_video():
    logits = np.log([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]).astype(np.float32)
    three = task_of(load_settings()).verdict(logits, ["cat", "dog", "eel"], None)
    assert three.scores == pytest.approx({"cat": 0.3, "dog": 0.25, "eel": 0.45})
    assert (three.class_name, three.score, three.confidence) == ("eel", three.scores["eel"], three.scores["eel"])
    assert three.clips == pytest.approx((0.2, 0.7)), "of the video's class"
    two = task_of(load_settings()).verdict(np.log([[0.6, 0.4]]).astype(np.float32), ["real", "fake"], 0.3)
    assert (two.class_name, two.score, two.confidence) == ("fake", pytest.approx(0.4), pytest.approx(0.4))
    values = np.array([[1.0], [4.0]], np.float32)
    value = task_of(load_settings(None, ("loss.name=mse",))).verdict(values, ["real", "fake"], None)
    assert (value.class_name, value.score, value.scores, value.clips) == (None, 2.5, {}, (1.0, 4.0))
