import inspect
import os
import sys
from itertools import islice

import pytest
from made_trees import make_tree

from shardify.sources.catalog import list_sources
from shardify.sources.entries import Entries, find_videos


def names(catalog):
    return [source.source for source in catalog.sources]


def test_loops_are_not_followed(tmp_path):
    make_tree(tmp_path, "store/a.mp4", "data/fake/b.mp4")
    (tmp_path / "data/real").symlink_to(tmp_path / "store")
    (tmp_path / "data/fake/up").symlink_to(tmp_path / "data")
    (tmp_path / "data/fake/far").symlink_to(tmp_path)
    (tmp_path / "store/self").symlink_to(tmp_path / "store")
    assert len(list(islice(Entries(tmp_path / "data"), 100))) < 20, "else what follows would never end"
    catalog = list_sources(tmp_path / "data")
    assert names(catalog) == ["fake/b.mp4", "real/a.mp4"]
    assert "not followed: 3 links to folders above them; first: fake/far" in catalog.notes


@pytest.mark.parametrize(
    ("pool", "linked"), [("beside", "class"), ("beside", "split"), ("data/train/fake/pool", "class")]
)
def test_a_folder_that_two_splits_link_to_has_inputs_in_both(tmp_path, pool, linked):
    """The same files under two names, as version 0.1.0 listed them: a build of then finds nothing gone."""
    make_tree(tmp_path, f"{pool}/deep/a.mp4", f"{pool}/b.mp4", "data/train/fake/c.mp4", "data/test/fake/d.mp4")
    for split in ("train", "test"):
        (tmp_path / f"data/{split}/real").symlink_to(tmp_path / pool)
    if linked == "split":  # the links lie in linked folders themselves
        (tmp_path / "data").rename(tmp_path / "splits")
        (tmp_path / "data").mkdir()
        for split in ("train", "test"):
            (tmp_path / "data" / split).symlink_to(tmp_path / "splits" / split)
    walked = os.walk(tmp_path / "data", followlinks=True)
    paths = [
        os.path.relpath(os.path.join(place, name), tmp_path / "data") for place, _, files in walked for name in files
    ]
    catalog = list_sources(tmp_path / "data")
    assert {f"{split}/real/{name}" for split in ("train", "test") for name in ("b.mp4", "deep/a.mp4")} <= {*paths}
    assert names(catalog) == sorted(paths) == find_videos(tmp_path / "data")[0]
    assert not any("not followed" in note for note in catalog.notes)


def test_pictures_beside_videos_are_counted(tmp_path):
    make_tree(tmp_path, "data/a.mp4", "data/b.png", "data/c.jpg")
    assert find_videos(tmp_path / "data") == (["a.mp4"], ["left out: 2 pictures beside the videos; first: b.png"])
    (tmp_path / "data/a.mp4").unlink()
    assert find_videos(tmp_path / "data") == (["b.png", "c.jpg"], [])


def test_links_within_links_are_bounded_and_counted(tmp_path):
    """They would be 2^14 - 1 inputs for one file; which of them are followed does not hang on other links' names."""
    for number in range(13):
        (tmp_path / f"data/z{number:02d}").mkdir(parents=True)
        for link in "ab":
            (tmp_path / f"data/z{number:02d}" / link).symlink_to(tmp_path / f"data/z{number + 1:02d}")
    make_tree(tmp_path, "data/z13/deep/x.mp4", "data/z13/y.mp4", "data/real/a.mp4")
    places = ["z12/a", "z12/b", "z13"]
    expected = ["real/a.mp4", *(f"{place}/{name}" for place in places for name in ("deep/x.mp4", "y.mp4"))]
    catalog = list_sources(tmp_path / "data")
    assert names(catalog) == expected
    line = "not followed: 48 links inside linked folders, to 8 videos that are inputs under another name"
    line += "; first: z00/a/a"
    assert line in catalog.notes and find_videos(tmp_path / "data") == (expected, [line])
    (tmp_path / "data/0").symlink_to(tmp_path / "data/z00")
    assert [name for name in names(list_sources(tmp_path / "data")) if not name.startswith("0/")] == expected


def test_links_within_links_outside_the_data_are_bounded(tmp_path):
    for number in range(13):
        (tmp_path / f"z{number:02d}").mkdir()
        for link in "ab":
            (tmp_path / f"z{number:02d}" / link).symlink_to(tmp_path / f"z{number + 1:02d}")
    make_tree(tmp_path, "z13/x.mp4", "data/fake/a.mp4")
    (tmp_path / "data/real").symlink_to(tmp_path / "z00")
    assert names(list_sources(tmp_path / "data")) == ["fake/a.mp4", f"real/{'a/' * 13}x.mp4"]


def test_a_tree_deeper_than_python_can_call(tmp_path):
    make_tree(tmp_path, "real/a.mp4", f"fake/{'d/' * 250}b.mp4")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 200)
    try:
        assert len(list_sources(tmp_path).sources) == 2
    finally:
        sys.setrecursionlimit(limit)
