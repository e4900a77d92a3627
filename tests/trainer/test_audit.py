import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import webdataset
from click.testing import CliRunner
from folders import make_clips
from media import write_video
from sklearn.metrics import roc_auc_score

from shardify.build.build import build
from shardify.build.request import BuildRequest
from shardify.format.records import Head
from shardify.format.settings import BuildSettings
from trainer.audit import main
from trainer.data.shard_set import open_shards
from trainer.tools.audit import audit, chance_deviation

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import make_demo_videos

SETTINGS = BuildSettings(frames=2, size=8, val_fraction=0, test_fraction=0)


@pytest.fixture(scope="module")
def alike(tmp_path_factory):
    """Sixty videos whose classes differ in brightness only; sizes and rates are the same mix for both."""
    root = tmp_path_factory.mktemp("alike")
    return make_clips(root / "data", {"a": 30, "b": 30}, frames=3, pixels=16)


def shards_of(data, out):
    build(BuildRequest(data, out, SETTINGS, workers=2))
    return open_shards(out)


def test_silent_where_the_files_are_alike(alike, tmp_path):
    assert "WARNING" not in "\n".join(audit(shards_of(alike, tmp_path / "shards")))


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


@pytest.mark.parametrize("num_groups", [60, 300])
def test_the_line_says_up_to_where_there_is_no_alarm(alike, tmp_path, num_groups):
    """Of 300 clips, five of each video: in one group, or each in its own. Then a video's clips betray one another."""
    shards = shards_of(alike, tmp_path / "shards")
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
    rng, labels = np.random.default_rng(0), np.repeat([0, 1], [40, 20])
    areas = [roc_auc_score(labels, rng.random(60)) for _ in range(300)]
    assert chance_deviation([40, 20]) == pytest.approx(np.std(areas), rel=0.1)


def test_one_class_has_nothing_to_audit(tmp_path):
    data = make_clips(tmp_path / "data", {"a": 3, "b": 3}, frames=2, pixels=8)
    shards = dataclasses.replace(shards_of(data, tmp_path / "shards"), heads=[Head("class", ["a"])])
    assert audit(shards) == ["nothing to audit: all clips are of one class, a"]


def test_too_little_data_says_so(tmp_path):
    data = make_clips(tmp_path / "data", {"a": 3, "b": 3}, frames=2, pixels=8)
    assert "too few groups" in audit(shards_of(data, tmp_path / "shards"))[0]


def test_the_demos_data(tmp_path):
    assert make_demo_videos.make_all(tmp_path / "data", {"train": 50, "val": 0, "test": 0}, 0, 2)
    shards_of(tmp_path / "data", tmp_path / "shards")
    result = CliRunner().invoke(main, ["--shards", str(tmp_path / "shards")])
    assert result.exit_code == 0, result.output
    assert "WARNING" not in result.output


def test_shards_that_do_not_say_where_they_come_from(tmp_path):
    with webdataset.TarWriter(str(tmp_path / "train-000000.tar")) as writer:
        for i in range(30):
            writer.write({"__key__": f"{i:03d}", "cls": i % 2, "npy": np.zeros((2, 8, 8, 3), np.uint8)})
    result = CliRunner().invoke(main, ["--shards", str(tmp_path)])
    assert result.exit_code == 1 and "only shards of `shardify build` can be audited" in result.output
