import pytest
from made_trees import make_tree, plan

from shardify.errors import UsageError
from shardify.sources.catalog import list_sources


def splits_and_classes(data):
    return {(source.split, source.class_name) for source in list_sources(data).sources}


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("Train", "Validation", "Test"),
        ("training", "DEV", "testing"),
        ("train", "valid", "eval"),
        ("TRAIN", "val", "evaluation"),
    ],
)
def test_split_folders_in_any_case_and_by_any_word(tmp_path, train, val, test):
    make_tree(tmp_path, f"{train}/real/a.mp4", f"{val}/real/b.mp4", f"{test}/fake/c.mp4")
    assert splits_and_classes(tmp_path) == {("train", "real"), ("val", "real"), ("test", "fake")}


@pytest.mark.parametrize(("one", "other"), [("eval", "test"), ("dev", "val"), ("train", "Training")])
def test_two_words_for_one_split_stop_the_build(tmp_path, one, other):
    make_tree(tmp_path, f"{one}/real/a.mp4", f"{other}/fake/b.mp4", "train/real/c.mp4")
    with pytest.raises(UsageError, match=f"{one} and {other.lower()} both mean"):
        list_sources(tmp_path)


@pytest.mark.parametrize(
    "folder", ["train", "Testing", "eval", "dfdc_train_part_3", "Part 02", "chunk-1", "test_videos", "fake test"]
)
def test_a_split_or_a_part_is_no_class(tmp_path, folder):
    make_tree(tmp_path, f"{folder}/a.mp4", "bus/b.mp4")
    with pytest.raises(UsageError, match=f"the folder {folder} looks like a .*--manifest"):
        list_sources(tmp_path)


def test_names_that_only_begin_like_a_part_are_classes(tmp_path):
    make_tree(tmp_path, "party/a.mp4", "partition 1 of a room/b.mp4", "trainer/c.mp4", "7/d.mp4", "apart2/e.mp4")
    make_tree(tmp_path, "Training dogs/f.mp4", "testimony/g.mp4")
    assert len({source.class_name for source in list_sources(tmp_path).sources}) == 7


def test_splits_below_the_classes_are_not_taken_in_silence(tmp_path):
    make_tree(tmp_path, "real/train/a.mp4", "real/test/b.mp4", "fake/Train/c.mp4", "fake/x/d.mp4")
    catalog = list_sources(tmp_path)
    assert {source.split for source in catalog.sources} == {None}
    assert catalog.notes == (
        "warning: test and train below the classes are not taken for splits; lay out train/CLASS/…",
    )


def test_classes_that_differ_in_case_alone_are_one(tmp_path):
    make_tree(tmp_path / "train", "Real/a.mp4", "Real/b.mp4", "fake/d.mp4", "fake/e.mp4")
    make_tree(tmp_path / "test", "real/c.mp4", "FAKE/f.mp4")
    catalog = list_sources(tmp_path)
    assert {source.class_name for source in catalog.sources} == {"Real", "fake"}
    assert "Real and real are one class: Real" in catalog.notes


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"Original", "Manipulated"}, ["Original", "Manipulated"]),
        ({"authentic", "synthesis"}, ["authentic", "synthesis"]),
        ({"pristine", "fake_videos"}, ["pristine", "fake_videos"]),
        ({"genuine", "deepfakes"}, ["genuine", "deepfakes"]),
        ({"0", "1", "2", "10", "11"}, ["0", "1", "2", "10", "11"]),
        ({"real", "unreal"}, ["real", "unreal"]),
    ],
)
def test_the_order_of_classes(tmp_path, names, expected):
    make_tree(tmp_path, *(f"{name}/{i}.mp4" for name in names for i in range(3)))
    assert plan(tmp_path).classes == expected


def test_hidden_and_system_entries_are_ignored_and_counted(tmp_path):
    make_tree(tmp_path, "real/a.mp4", "fake/b.mp4", "real/._a.mp4", "__MACOSX/real/._a.mp4", "fake/@eaDir/b.mp4/t.mp4")
    make_tree(tmp_path, ".Trash-1000/files/c.mp4", ".ipynb_checkpoints/d-checkpoint.mp4", "fake/.hidden.mp4")
    catalog = list_sources(tmp_path)
    assert [source.source for source in catalog.sources] == ["fake/b.mp4", "real/a.mp4"]
    assert catalog.ignored == 6 and "ignored 6 hidden or system entries; for example .Trash-1000" in catalog.notes


def test_many_classes_are_not_listed(tmp_path):
    make_tree(tmp_path, *(f"c{i:02d}/{k}.mp4" for i in range(11) for k in range(2)))
    built = plan(tmp_path)
    assert built.notes[0] == "class folders: 22 videos of 11 classes; split: drawn here"
    assert built.notes[1] == "11 classes, from 0 c00 to 10 c10"
