import numpy as np
import pytest
from conftest import make_clips
from media import write_video

from shardify.build import build
from shardify.settings import BuildSettings
from trainer.audit import audit
from trainer.shards import open_shards

SETTINGS = BuildSettings(frames=2, size=8, val_fraction=0, test_fraction=0)


@pytest.fixture(scope="module")
def alike(tmp_path_factory):
    """Sixty videos whose classes differ in brightness only; sizes and rates are the same mix for both."""
    root = tmp_path_factory.mktemp("alike")
    return make_clips(root / "data", {"a": 30, "b": 30}, frames=3, pixels=16)


def shards_of(data, out):
    build(data, out, SETTINGS, workers=2)
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


def test_too_little_data_says_so(tmp_path):
    data = make_clips(tmp_path / "data", {"a": 3, "b": 3}, frames=2, pixels=8)
    assert "too few groups" in audit(shards_of(data, tmp_path / "shards"))[0]
