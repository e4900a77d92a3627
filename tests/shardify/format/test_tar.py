"""One clip out of a shard, be it a tar or unpacked."""

import pytest

from shardify.errors import FormatError
from shardify.format.tar import read_clip


def write_unpacked(folder, record):
    (folder / "train-000000").mkdir()
    (folder / "train-000000" / "k.jpg").write_bytes(b"payload")
    (folder / "train-000000" / "k.json").write_text(record)
    return folder / "train-000000.tar"


def test_a_clip_of_an_unpacked_shard(tmp_path):
    assert read_clip(write_unpacked(tmp_path, '{"label": 1}'), "k", "jpg") == (b"payload", {"label": 1})


@pytest.mark.parametrize("record", ["", "{", "[" * 100_000], ids=["empty", "cut", "deep"])
def test_a_record_that_cannot_be_read_is_named(tmp_path, record):
    with pytest.raises(FormatError, match=r"train-000000\.tar: clip k cannot be read"):
        read_clip(write_unpacked(tmp_path, record), "k", "jpg")
