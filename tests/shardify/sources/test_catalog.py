import json
import os
import re

import pytest
from made_trees import make_tree

from shardify.errors import NothingToBuildError, UsageError
from shardify.sources.catalog import Source, list_sources, order_classes
from shardify.sources.groups import group_names


def by_source(catalog):
    return {source.source: source for source in catalog.sources}


def test_class_folders_without_splits(tmp_path):
    catalog = list_sources(make_tree(tmp_path, "real/b.mp4", "real/deep/a.MKV", "fake/c.avi", "fake/notes.txt"))
    assert [s.source for s in catalog.sources] == ["fake/c.avi", "real/b.mp4", "real/deep/a.MKV"]
    assert [s.class_name for s in catalog.sources] == ["fake", "real", "real"]
    assert {s.split for s in catalog.sources} == {None}
    assert catalog.ignored == 1 and catalog.notes == ("ignored 1 other files: .txt 1",)


def test_ignored_files_are_listed_by_their_endings(tmp_path):
    names = [f"real/{i}.{ending}" for i, ending in enumerate(["TXT", "txt", "mod", "dat"])]
    make_tree(tmp_path, "real/a.mp4", "real/LICENSE", *names, *(f"x/{i}.{i:02d}" for i in range(20)))
    (note,) = list_sources(tmp_path).notes
    assert note.startswith("ignored 25 other files: .txt 2, .00 1, .01 1,") and note.endswith(" and 14 more kinds")


def test_a_folder_without_a_video_lists_what_is_there(tmp_path):
    with pytest.raises(NothingToBuildError, match=r"no video and no picture \(ignored 2 other files: .mod 2; known"):
        list_sources(make_tree(tmp_path, "real/a.mod", "fake/b.mod"))


def test_split_folders_and_what_is_missing(tmp_path):
    catalog = list_sources(make_tree(tmp_path, "train/real/a.mp4", "validation/fake/b.mp4"))
    assert [(s.split, s.class_name) for s in catalog.sources] == [("train", "real"), ("val", "fake")]
    assert len(catalog.notes) == 1 and "test is missing" in catalog.notes[0]


@pytest.mark.parametrize(
    ("names", "stray", "reason"),
    [
        (("real/a.mp4", "fake/b.mp4", "c.mp4"), "c.mp4", "no class folder"),
        (("train/real/a.mp4", "train/c.mp4"), "train/c.mp4", "no class folder"),
        (("train/real/a.mp4", "other/real/c.mp4"), "other/real/c.mp4", "beside train/"),
    ],
)
def test_videos_outside_the_layout_are_inputs_with_a_reason(tmp_path, names, stray, reason):
    found = by_source(list_sources(make_tree(tmp_path, *names)))
    assert len(found) == len(names)
    assert reason in found[stray].error


def test_odd_entries_with_a_videos_name_are_inputs(tmp_path):
    make_tree(tmp_path, "real/a.mp4", "fake/b.mp4")
    (tmp_path / "real/dangling.mp4").symlink_to("nowhere")
    (tmp_path / "real/loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "real/folder.mp4").mkdir()
    os.mkfifo(tmp_path / "real/pipe.mp4")
    assert len(list_sources(tmp_path).sources) == 6


def test_names_that_are_not_utf8_are_refused_by_name(tmp_path):
    make_tree(tmp_path, "real/a.mp4")
    with open(os.fsencode(tmp_path / "real") + b"/\xff.mp4", "wb"):
        pass
    found = by_source(list_sources(tmp_path))
    (name,) = found.keys() - {"real/a.mp4"}
    assert name.startswith("real/\\xff.mp4 (") and "UTF-8" in found[name].error


def test_keys_are_safe_short_and_unique():
    names = ["real/a.b.mp4", "real/A.b.mp4", "fake/a.b.mp4", f"real/{'x' * 250}.mp4", "real/-rf.mp4", "real/日本.mp4"]
    keys = [Source(None, name, "real", None).key for name in names]
    assert len(set(keys)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", key) and len(key) <= 80 for key in keys)
    assert keys[0].startswith("a_b-")


@pytest.mark.parametrize(
    ("names", "known", "expected"),
    [
        ({"real", "fake"}, (), ["real", "fake"]),
        ({"FAKE", "REAL"}, (), ["REAL", "FAKE"]),
        ({"cat", "ant", "bee"}, (), ["ant", "bee", "cat"]),
        ({"real", "fake", "other"}, (), ["fake", "other", "real"]),
        ({"ant", "cat"}, ("bee", "cat"), ["bee", "cat", "ant"]),
    ],
)
def test_class_order(names, known, expected):
    assert order_classes(names, known) == expected


def test_empty_and_missing_folders(tmp_path):
    with pytest.raises(NothingToBuildError, match="holds no video"):
        list_sources(tmp_path)
    with pytest.raises(UsageError, match="not a folder"):
        list_sources(tmp_path / "missing")
    with pytest.raises(NothingToBuildError, match="none of 1 videos"):
        list_sources(make_tree(tmp_path, "a.mp4"))


def test_dfdc_metadata_is_recognised_and_any_other_is_not(tmp_path):
    make_tree(tmp_path, "fake/a.mp4", "real/b.mp4")
    (tmp_path / "metadata.json").write_text(json.dumps({"a.mp4": {"label": "FAKE", "original": "b.mp4"}}))
    assert list_sources(tmp_path).originals == {"a.mp4": "b.mp4"}


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2]", "[" * 100_000, '{"a.mp4": {"original": 5}}', '{"a.mp4": {"original": ["b.mp4"]}}', '{"a.mp4": [1]}',
        '{"a.mp4": {"original": "\\ud800"}}', "5", "null", "{", '{"a.mp4": {"original": {}}}',
    ],
)  # fmt: skip
def test_any_other_metadata_is_not_believed(tmp_path, text):
    make_tree(tmp_path, "fake/a.mp4", "real/b.mp4")
    (tmp_path / "metadata.json").write_text(text)
    catalog = list_sources(tmp_path)
    assert catalog.originals == {} and len(group_names(catalog, None)[0]) == 2


def test_a_folder_that_cannot_be_listed_is_not_passed_over(tmp_path, monkeypatch):
    make_tree(tmp_path, "real/a.mp4", "fake/b.mp4")
    listed = os.scandir

    def scandir(path):
        if str(path).endswith("fake"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)  # root may list everything
    with pytest.raises(PermissionError, match="fake"):
        list_sources(tmp_path)


def test_a_class_folder_whose_name_is_not_utf8(tmp_path):
    make_tree(tmp_path, "real/a.mp4", os.fsdecode(b"f\xe9ke/b.mp4"))
    (bad,) = (source for source in list_sources(tmp_path).sources if source.error)
    assert "not UTF-8" in bad.error and bad.class_name.encode("utf-8")
