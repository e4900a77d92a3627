"""How other writers lay out their tars: splits by name and by folder, spellings, and what fits nothing is said."""

import tarfile

import numpy as np
import pytest
from builds import unpack
from folders import FRAMES
from foreign_tars import CLIPS, jpg, pixels, write

from trainer.errors import FormatError
from trainer.shards.locate import split_of
from trainer.shards.shard_set import open_shards
from trainer.shards.splits import choose_splits


def write_clips(path, first=0, extension="jpg", key="{:06d}", count=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = range(first, first + count)
    return write(path, ({"__key__": key.format(i), extension: jpg(i % 6), "cls": i % 2} for i in numbers))


def counts(folder):
    shards = open_shards(folder, frames=FRAMES)
    return [len(shards.numbers(split)) for split in ("train", "val", "test")], list(shards.notes)


@pytest.mark.parametrize(
    "names",
    [
        ("imagenet-train-000000", "imagenet-val-000000", "imagenet-test-000000"),
        ("clips-train-0", "clips-valid-0", "clips-eval-0"),
        ("ucf101_training_00", "ucf101_validation_00", "ucf101_testing_00"),
        ("Train2017", "DEV.2017", "a test"),
        ("train/0", "val/0", "test/0"),
        ("Training/val-0", "dev/0", "evaluation/x"),
    ],
)
def test_a_word_anywhere_in_the_name_says_the_split(tmp_path, names):
    for i, name in enumerate(names):
        write_clips(tmp_path / f"{name}.tar", 10 * i)
    expected = [0, 2, 1] if names[0] == "Training/val-0" else [1, 1, 1]
    assert counts(tmp_path) == ([2 * count for count in expected], [])


@pytest.mark.parametrize("name", ["trainer", "valley", "contest", "trainval", "latest", "x"])
def test_other_words_are_no_splits_and_what_fits_none_is_named(tmp_path, name):
    assert split_of(tmp_path / f"{name}-0.tar") is None
    write_clips(tmp_path / f"{name}-0.tar")
    write_clips(tmp_path / "train-0.tar", 10)
    write_clips(tmp_path / "val-0.tar", 20)
    note = f"no word in {name}-0.tar says train, val or test: these clips are trained on"
    assert counts(tmp_path) == ([4, 2, 0], [note])
    assert note in choose_splits(open_shards(tmp_path, FRAMES), 0.1, 0)[1], "a run says it and keeps it"


def test_many_tars_that_fit_none_are_one_short_note(tmp_path):
    for i in range(9):
        write_clips(tmp_path / f"{i:02d}.tar", 10 * i)
    (note,) = counts(tmp_path)[1]
    assert note.startswith("no word in 00.tar, 01.tar, 02.tar, 03.tar and 5 more says train")


def test_two_splits_in_one_name_are_refused_unless_each_clip_says_it(tmp_path):
    write_clips(tmp_path / "test-of-train.tar")
    with pytest.raises(FormatError, match=r"test-of-train\.tar: its name says test and train; name one split"):
        open_shards(tmp_path, FRAMES)
    about = {"split": "val", "frames": FRAMES}
    write(tmp_path / "test-of-train.tar", [{"__key__": "a", "jpg": jpg(0), "cls": 0, "json": about}])
    assert counts(tmp_path) == ([0, 1, 0], [])


@pytest.mark.parametrize("wrapped", ["up", "up/load"])
def test_wrapped_folders_of_tars(tmp_path, wrapped):
    for split in ("train", "val"):
        write_clips(tmp_path / wrapped / split / "0.tar")
    assert counts(tmp_path) == ([2, 2, 0], [])
    write_clips(tmp_path / "up2" / "0.tar")
    if wrapped == "up":
        with pytest.raises(FormatError, match=r"holds several shards folders \(up, up2\); name one"):
            open_shards(tmp_path, FRAMES)


@pytest.mark.parametrize("is_unpacked", [False, True])
def test_jpg_and_jpeg_are_one_kind(tmp_path, is_unpacked):
    for i, extension in enumerate(("jpg", "jpeg", "JPG")):
        write_clips(tmp_path / f"train-{i}.tar", 2 * i, extension)
    expected = pixels(open_shards(tmp_path, FRAMES))
    if is_unpacked:
        unpack(tmp_path)
    shards = open_shards(tmp_path, FRAMES)
    assert bool(shards.unpacked) == is_unpacked
    assert np.array_equal(pixels(shards), expected) and len(expected) == 6


def test_tars_and_folders_side_by_side(tmp_path):
    """Where a copy from Kaggle was mixed with one from home."""
    for i in range(2):
        write_clips(tmp_path / f"train-{i}.tar", 2 * i)
    expected = pixels(open_shards(tmp_path, FRAMES))
    with tarfile.open(tmp_path / "train-1.tar") as tar:
        tar.extractall(tmp_path / "train-1", filter="data")
    (tmp_path / "train-1.tar").unlink()
    assert np.array_equal(pixels(open_shards(tmp_path, FRAMES)), expected)


@pytest.mark.parametrize("name", ["train-0.tar.gz", "train-0.tgz", "train-0.tar.zst", "sub/val/0.TAR.XZ"])
def test_compressed_tars_are_refused_by_name(tmp_path, name):
    path = write_clips(tmp_path / name)
    for shards in (tmp_path, path, f"{path.parent}/*.*"):
        with pytest.raises(FormatError, match=r"is compressed; .*unpack it to a \.tar") as caught:
            open_shards(shards, FRAMES)
        assert path.name in str(caught.value)


def test_a_compressed_copy_beside_its_tar_is_left_alone(tmp_path):
    write_clips(tmp_path / "train-0.tar")
    (tmp_path / "train-0.tar.gz").touch()
    assert counts(tmp_path) == ([2, 0, 0], [])


def test_dots_in_names_are_explained_in_a_short_line(tmp_path):
    write_clips(tmp_path / "train-0.tar", key="vid.{}.v2", count=500)
    with pytest.raises(
        FormatError, match=r"clip vid has .* and 996 more; .*a clip's name ends at its first dot"
    ) as found:
        open_shards(tmp_path, FRAMES)
    assert len(str(found.value)) < 400


def test_one_label_with_two_names(tmp_path):
    samples = ({"__key__": f"{i}", "npy": CLIPS[i], "cls": 1, "json": {"class": name}} for i, name in enumerate("ab"))
    path = write(tmp_path / "a.tar", samples)
    with pytest.raises(FormatError, match=r"a\.tar: clip 1 calls class 1 b, others call it a"):
        open_shards(path)


def test_names_that_are_not_utf_8_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    for name in (b"k\xff.cls", b"k\xff.npy"):
        open(bytes(tmp_path / "a") + b"/" + name, "wb").close()
    with pytest.raises(FormatError, match=r"a: the name 'k\\udcff\.cls' is not UTF-8; rename that file"):
        open_shards(tmp_path)
