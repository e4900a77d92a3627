"""What a folder of shards remembers of where its inputs came from: the layout, and the list of the official split."""

import hashlib

import pytest
from builds import SMALL, make_videos, tree

from shardify.build.build import build
from shardify.build.request import BuildRequest
from shardify.errors import UsageError
from shardify.format.index import read_meta, read_rows
from shardify.format.settings import BuildSettings

LISTS = {"train": "run/a.mp4\nrun/b.mp4\nsit/c.mp4\n", "test": "sit/d.mp4\n"}


@pytest.fixture
def data(tmp_path):
    for split, lines in LISTS.items():
        (tmp_path / f"{split}list01.txt").write_text(lines)
    return make_videos(tmp_path / "data", ["run/a.mp4", "run/b.mp4", "sit/c.mp4", "sit/d.mp4", "sit/in_no_list.mp4"])


def built(data, out, **options):
    return build(BuildRequest(data, out, BuildSettings(**SMALL), workers=1, **options))


def test_a_list_that_is_missing_stops_the_next_build(data, tmp_path):
    out, listed = tmp_path / "s", tmp_path / "trainlist01.txt"
    built(data, out, split_file=listed)
    meta, before = read_meta(out), tree(out)
    content = "".join(LISTS[split] for split in ("test", "train")).encode()
    assert meta["layout"] == "folders"
    name = "testlist01.txt and trainlist01.txt"
    assert meta["split_list"] == {"name": name, "sha256": hashlib.sha256(content).hexdigest()}
    with pytest.raises(UsageError, match=f"was built with the official split of {name}.*--split-file"):
        built(data, out)
    assert tree(out) == before and len(read_rows(out)) == 4  # what is in no list was not admitted
    built(data, out, split_file=listed)
    assert tree(out) == before


def test_a_list_that_has_changed_or_come_is_named(data, tmp_path, caplog):
    out, listed = tmp_path / "s", tmp_path / "trainlist01.txt"
    built(data, out)
    assert read_meta(out)["split_list"] is None
    built(data, out, split_file=listed)
    name = "testlist01.txt and trainlist01.txt"
    assert f"warning: the official split of {name} is new: the last build was without a list" in caplog.messages
    built(data, tmp_path / "t", split_file=listed)
    listed.write_text(LISTS["train"] + "sit/in_no_list.mp4\n")
    caplog.clear()
    built(data, tmp_path / "t", split_file=listed)
    assert f"warning: the official split of {name} has changed since the last build" in caplog.messages


def test_another_layout_is_named(data, tmp_path, caplog):
    out, manifest = tmp_path / "s", tmp_path / "m.csv"
    manifest.write_text("path,class\nrun/a.mp4,run\nsit/c.mp4,sit\n")
    built(data, out, manifest=manifest)
    assert read_meta(out)["layout"] == "manifest"
    built(data, out)
    assert "warning: the layout is folders, that of the last build was manifest" in caplog.messages
    assert read_meta(out)["layout"] == "folders"
