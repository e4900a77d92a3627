"""Readers other than ours: stock webdataset and Hugging Face datasets."""

import numpy as np
import pytest
from media import numbered_video, read_number

from shardify import sheet
from shardify.build import build
from shardify.settings import BuildSettings


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    root = tmp_path_factory.mktemp("interoperability")
    for split in ("train", "val"):
        for name in ("real", "fake"):
            (root / "data" / split / name).mkdir(parents=True)
            for i in range(3):
                numbered_video(root / "data" / split / name / f"{i}.mp4", 8, size=(64, 64))
    build(root / "data", root / "shards", BuildSettings(frames=4, size=64, shard_size=2), workers=2)
    return root / "shards"


def test_webdataset_reads_sheets_labels_and_records(shards):
    import webdataset

    pattern = str(shards / "train-{000000..000002}.tar")
    clips = list(webdataset.WebDataset(pattern, shardshuffle=False).decode("rgb8").to_tuple("jpg", "cls", "json"))
    assert len(clips) == 6
    for picture, label, record in clips:
        frames = sheet.from_sheet(picture, 4)
        assert [read_number(frame) for frame in frames] == record["frame_index"] == [1, 3, 5, 7]
        assert label == record["label"] == ["real", "fake"].index(record["class"])


@pytest.mark.parametrize("call", [{"path": "webdataset", "data_dir": "{shards}"}, {"path": "{shards}"}])
def test_hugging_face_reads_every_split(shards, tmp_path, call, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    call = {name: value.format(shards=shards) for name, value in call.items()}
    found = datasets.load_dataset(**call, cache_dir=str(tmp_path))
    assert {len(split) for split in found.values()} == {6} and len(found) == 2
    clip = found["train"][0]
    assert np.asarray(clip["jpg"]).shape == (128, 128, 3)
    assert clip["json"]["label"] == int(clip["cls"])
