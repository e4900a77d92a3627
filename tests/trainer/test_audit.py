import dataclasses

import numpy as np
import pytest
import webdataset
from click.testing import CliRunner
from faces import make_squares, use_opencv_standin
from folders import make_clips
from media import write_video
from sound import click_at, sounding_video

from shardify.build.build import build
from shardify.build.request import BuildRequest
from shardify.format.records import Head
from shardify.format.settings import BuildSettings
from shardify.storage.local import file_sha256
from trainer.audit import main
from trainer.shards.shard_set import open_shards
from trainer.tools.audit import audit, chance_deviation, metadata_table

SETTINGS = BuildSettings(frames=2, size=8, val_fraction=0, test_fraction=0)


@pytest.fixture(scope="module")
def alike(tmp_path_factory):
    """Sixty videos whose classes differ in brightness only; sizes and rates are the same mix for both."""
    root = tmp_path_factory.mktemp("alike")
    return make_clips(root / "data", {"a": 30, "b": 30}, frames=3, pixels=16)


@pytest.fixture(scope="module")
def shards(alike, tmp_path_factory):
    """Of the videos of `alike`."""
    return shards_of(alike, tmp_path_factory.mktemp("shards") / "s")


def shards_of(data, out):
    build(BuildRequest(data, out, SETTINGS, workers=1))
    return open_shards(out)


def test_silent_where_the_files_are_alike(shards):
    assert "WARNING" not in "\n".join(audit(shards))


def test_another_frame_rate_of_one_class_is_named(alike, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "a").symlink_to(alike / "a")
    (data / "b").mkdir()
    for i in range(30):
        noise = np.random.default_rng(i).integers(0, 256, (3, 16, 16, 3), np.uint8)
        write_video(data / "b" / f"{i}.mkv", noise, codec="ffv1", pixel_format="bgr0", rate=25)
    lines = audit(shards_of(data, tmp_path / "shards"))
    assert "WARNING: a shortcut in the data" in lines[-1] and "fps (1.00)" in lines[-1]


def test_extra_clips_of_one_class_that_are_unlike_the_others_are_named(shards, tmp_path):
    """And those whose keys are the same as in the other folder, since their files have the same names."""
    unlike = make_clips(tmp_path / "data", {"a": 1, "b": 30}, frames=9, pixels=16)
    build(BuildRequest(unlike, tmp_path / "extra", SETTINGS, workers=1))
    options = ["--shards", str(shards.folder), "--extra", str(tmp_path / "extra")]
    assert "WARNING" not in CliRunner().invoke(main, options[:2]).output
    output = CliRunner().invoke(main, options).output
    assert "31 clips of" in output and "WARNING: a shortcut in the data: " in output and "source_frames" in output


def test_boxes_that_tell_the_classes_apart_are_named(alike, tmp_path):
    boxes = {"a": "0,4,8,8", "b": "6,4,8,8"}
    rows = [f"{name}/{path.name},{box}" for name, box in boxes.items() for path in (alike / name).iterdir()]
    (tmp_path / "boxes.csv").write_text("\n".join(["path,x,y,width,height", *rows]))
    settings = dataclasses.replace(SETTINGS, boxes=file_sha256(tmp_path / "boxes.csv"))
    build(BuildRequest(alike, tmp_path / "s", settings, boxes=tmp_path / "boxes.csv", workers=1))
    shards = open_shards(tmp_path / "s")
    assert set(metadata_table(shards)["box_size"]) == {8}
    lines = audit(shards)
    assert "WARNING: a shortcut in the data: box_x (1.00). A" in lines[-1]


def test_the_number_of_faces_and_their_scores_are_looked_at(shards, tmp_path, monkeypatch):
    model = use_opencv_standin(monkeypatch, tmp_path / "opencv")
    data = make_squares(tmp_path / "data", 2)
    settings = dataclasses.replace(SETTINGS, faces=True, faces_model=file_sha256(model))
    build(BuildRequest(data, tmp_path / "s", settings, faces_model=model, workers=1))
    table = metadata_table(open_shards(tmp_path / "s"))
    assert table["faces"].tolist() == [1] * 4 and table["face_score"] == pytest.approx([0.9] * 4)
    assert table["box_size"] == pytest.approx([38] * 4, abs=2)
    assert not {"faces", "box_x"} & metadata_table(shards).keys()


def test_the_sound_track_is_looked_at(shards, tmp_path):
    for name, rate in (("a", 16_000), ("b", 8_000)):
        (tmp_path / "data" / name).mkdir(parents=True)
        sounding_video(tmp_path / "data" / name / "1.mkv", click_at(0.5), rate=rate)
        write_video(tmp_path / "data" / name / "2.mkv", np.zeros((3, 16, 16, 3), np.uint8))
    settings = dataclasses.replace(
        SETTINGS, audio="auto", audio_mels=8, audio_columns=4, audio_low=1000.0, audio_window=5.0, audio_hop=5.0
    )
    build(BuildRequest(tmp_path / "data", tmp_path / "s", settings, workers=1))
    table = {name: column.tolist() for name, column in metadata_table(open_shards(tmp_path / "s")).items()}
    assert sorted(zip(table["audio_source_rate"], table["has_audio"], table["audio_channels"], strict=True)) == [
        (0, 0, 0), (0, 0, 0), (8_000, 1, 1), (16_000, 1, 1)
    ]  # fmt: skip
    assert table["audio_codec"] == table["has_audio"] and table["audio_coverage"] == pytest.approx(table["has_audio"])
    assert sorted(table["audio_level_db"]) == pytest.approx([-200, -200, -30, -30], abs=10)
    assert not {"has_audio", "audio_codec"} & metadata_table(shards).keys(), "of a build without sound"


@pytest.mark.parametrize("num_groups", [60, 300])
def test_the_line_says_up_to_where_there_is_no_alarm(shards, num_groups):
    """Of 300 clips, five of each video: in one group, or each in its own. Then a video's clips betray one another."""
    many = dataclasses.replace(shards, samples=np.resize(np.array(shards.samples), 300))
    many.samples["group"] = np.arange(300) % num_groups
    line, *warning = audit(many)
    assert bool(warning) == (num_groups == 300), "a group is in one fold only"
    if num_groups == 60:
        assert "no alarm up to 0.65: within chance for so few groups, 30 of a class)" in line
    else:
        assert line.endswith("no alarm up to 0.60)")


def test_clips_of_one_group_count_once():
    """The deviation is that of areas under random scores of as many groups."""
    scores = np.random.default_rng(0).random((1000, 60))
    areas = (scores[:, 40:, None] > scores[:, None, :40]).mean((1, 2))
    assert chance_deviation([40, 20]) == pytest.approx(np.std(areas), rel=0.1)


def test_one_class_has_nothing_to_audit(tmp_path):
    data = make_clips(tmp_path / "data", {"a": 3, "b": 3}, frames=2, pixels=8)
    shards = dataclasses.replace(shards_of(data, tmp_path / "shards"), heads=[Head("class", ["a"])])
    assert audit(shards) == ["nothing to audit: all clips are of one class, a"]


def test_too_little_data_says_so(tmp_path):
    data = make_clips(tmp_path / "data", {"a": 3, "b": 3}, frames=2, pixels=8)
    assert "too few groups" in audit(shards_of(data, tmp_path / "shards"))[0]


def test_shards_that_do_not_say_where_they_come_from(tmp_path):
    with webdataset.TarWriter(str(tmp_path / "train-000000.tar")) as writer:
        for i in range(30):
            writer.write({"__key__": f"{i:03d}", "cls": i % 2, "npy": np.zeros((2, 8, 8, 3), np.uint8)})
    result = CliRunner().invoke(main, ["--shards", str(tmp_path)])
    assert result.exit_code == 1 and "only shards of `shardify build` can be audited" in result.output
