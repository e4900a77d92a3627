"""Shards as built, as Kaggle unpacks them, read-only, and damaged in every way that copying damages files."""

import dataclasses
import io
import json
import os
import shutil
import tarfile

import numpy as np
import pytest
from builds import unpack
from folders import FRAMES, SIZE, build_shards, make_clips

from shardify.format.index import sha256
from shardify.format.records import Head, npy_bytes
from shardify.format.settings import BuildSettings
from trainer.errors import FormatError
from trainer.shards.payloads import HERE
from trainer.shards.shard_set import differing_options, open_shards
from trainer.shards.splits import choose_splits


def change_index(shards, **changes):
    path = shards / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_samples(shards, change):
    """Alter samples.npy as an attacker would: the index's hash is made to fit."""
    samples = np.load(shards / "samples.npy")
    change(samples)
    (shards / "samples.npy").write_bytes(npy_bytes(samples))
    change_index(shards, sha256={"samples.npy": sha256(npy_bytes(samples)), "samples.csv": sha256(b"")})


def test_payloads_are_the_members_of_the_tars(shards_folder):
    shards = open_shards(shards_folder)
    members = {}
    for tar in shards_folder.glob("*.tar"):
        with tarfile.open(tar) as file:
            members |= {member.name: file.extractfile(member).read() for member in file}
    assert (shards.classes, shards.frames, shards.size) == (["a", "b"], FRAMES, SIZE)
    assert [len(shards.numbers(split)) for split in ("train", "val", "test")] == [20, 8, 8]
    for number in range(36):
        assert shards.read(number) == [members[f"{shards.key(number)}.jpg"]]
        assert int(members[f"{shards.key(number)}.cls"]) == shards.labels[number]


@pytest.mark.parametrize("made", ["own_shards", "raw_folder"])
def test_unpacked_and_read_only(made, request, tmp_path):
    folder = shutil.copytree(request.getfixturevalue(made), tmp_path / "copy")
    expected = [open_shards(folder).read(number) for number in range(36)]
    unpack(folder)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    shards = open_shards(folder)
    assert shards.unpacked
    assert [shards.read(number) for number in range(36)] == expected
    for path in [folder, *folder.iterdir()]:
        path.chmod(0o755)


def test_a_missing_shard_is_named(own_shards):
    (own_shards / "train-000001.tar").unlink()
    with pytest.raises(FormatError, match=r"train-000001\.tar is missing \(1 of 5"):
        open_shards(own_shards)


def test_a_truncated_shard_is_named_with_the_key(own_shards):
    shards = open_shards(own_shards)
    last = shards.numbers("val")[-1]
    os.truncate(own_shards / "val-000000.tar", int(shards.samples["frames_offset"][last]) + 100)
    with pytest.raises(FormatError, match=rf"val-000000\.tar: clip {shards.key(last)}: the file ends too early"):
        shards.read(last)
    assert shards.read(last - 1)


def test_an_altered_byte_is_seen(own_shards):
    shards = open_shards(own_shards)
    with open(own_shards / "test-000000.tar", "r+b") as file:
        file.seek(int(shards.samples["frames_offset"][-1]) + int(shards.samples["frames_length"][-1]) - 1)
        file.write(b"?")
    with pytest.raises(FormatError, match=rf"test-000000\.tar: clip {shards.key(-1)}: payload differs"):
        shards.read(-1)
    checked = np.zeros(len(shards.samples), np.int64)
    checked[-1] = HERE
    assert shards.read(-1, checked=checked)[0].endswith(b"?")


def test_swapped_shards_are_seen(own_shards):
    a, b = own_shards / "train-000000.tar", own_shards / "train-000001.tar"
    a.rename(own_shards / "old"), b.rename(a), (own_shards / "old").rename(b)
    shards = open_shards(own_shards)
    with pytest.raises(FormatError, match=r"train-00000[01]\.tar: clip"):
        for number in shards.numbers("train"):
            shards.read(number)


def test_a_pipe_in_a_shards_place_does_not_block(own_shards):
    shards = open_shards(own_shards)
    (own_shards / "train-000000.tar").unlink()
    os.mkfifo(own_shards / "train-000000.tar")
    with pytest.raises(FormatError, match=r"train-000000\.tar"):
        shards.read(0)


def test_a_shard_that_vanishes_is_named(own_shards):
    shards = open_shards(own_shards)
    (own_shards / "train-000000.tar").unlink()
    with pytest.raises(FormatError, match=r"train-000000\.tar: clip \S+ cannot be read \(No such file"):
        shards.read(0)


def test_a_length_that_lies_takes_no_memory(own_shards):
    change_samples(own_shards, lambda samples: samples["frames_length"].fill(2**32 - 1))
    with pytest.raises(FormatError, match="ends too early"):
        open_shards(own_shards).read(0)
    os.truncate(own_shards / "train-000000.tar", 1 << 33)  # sparse: takes no disk either
    change_samples(own_shards, lambda samples: samples["frames_length"].fill(3 << 29))
    with pytest.raises(FormatError, match="ends too early"):
        open_shards(own_shards).read(0)


@pytest.mark.parametrize("label", [2, -1])
def test_a_label_outside_the_classes(own_shards, label):
    change_samples(own_shards, lambda samples: samples["label_class"].__setitem__(21, label))
    key = np.load(own_shards / "samples.npy")["key"][21].decode()
    message = (
        rf"val-000000\.tar: clip {key} has the label {label} \(class\), .* 2 classes of index\.json; build or copy"
    )
    with pytest.raises(FormatError, match=message):
        open_shards(own_shards)


@pytest.mark.parametrize(("field", "value"), [("shard", 99), ("split", 7)])
def test_a_clip_in_no_shard(own_shards, field, value):
    change_samples(own_shards, lambda samples: samples[field].__setitem__(5, value))
    with pytest.raises(FormatError, match=r"samples\.npy: clip \S+ is in no shard of index\.json; copy both again"):
        open_shards(own_shards)


def test_a_mixture_of_tars_and_folders_is_read(own_shards):
    """Where Kaggle's copy was completed from home; what is missing in both forms is named."""
    expected = [open_shards(own_shards).read(number) for number in range(36)]
    for name in ("train-000001", "val-000000"):
        with tarfile.open(own_shards / f"{name}.tar") as file:
            file.extractall(own_shards / name, filter="data")
        (own_shards / f"{name}.tar").unlink()
    shards = open_shards(own_shards)
    assert {path.name for path in shards.unpacked} == {"train-000001", "val-000000"}
    assert [shards.read(number) for number in range(36)] == expected
    unpack(own_shards)
    shutil.rmtree(own_shards / "val-000000")
    with pytest.raises(FormatError, match=r"val-000000\.tar is missing \(1 of 5"):
        open_shards(own_shards)


def test_an_altered_samples_table_is_seen(own_shards):
    payload = (own_shards / "samples.npy").read_bytes()
    (own_shards / "samples.npy").write_bytes(payload[:-3] + bytes([payload[-3] ^ 1]) + payload[-2:])  # of the last CRC
    with pytest.raises(FormatError, match=r"samples\.npy: differs from index\.json"):
        open_shards(own_shards)


def test_no_pickle_is_opened(own_shards):
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (own_shards / "samples.npy").write_bytes(buffer.getvalue())
    with pytest.raises(FormatError, match=r"samples\.npy: cannot be read"):
        open_shards(own_shards)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 9}, "format version 9"),
        ({"format": "other"}, "is not an index of shardify"),
        ({"settings": {}}, "is damaged"),
        ({"settings": {"frames": 10**9, "size": 16, "codec": "jpeg"}}, "--frames is 1000000000"),
        ({"settings": {"frames": 5, "size": "x", "codec": "jpeg"}}, "--size is 'x'"),
        ({"settings": {"frames": 5, "size": 16, "codec": "pickle"}}, "--codec is 'pickle'"),
        ({"sha256": {}}, "is damaged"),
        ({"classes": ["a"]}, "classes"),
        ({"splits": {"train": {"samples": 36, "shards": [{"name": "../../x-000000.tar"}]}}}, "is missing|is damaged"),
    ],
)  # fmt: skip
def test_an_index_that_cannot_be_used(own_shards, changes, message):
    change_index(own_shards, **changes)
    with pytest.raises(FormatError, match=message):
        open_shards(own_shards)


def test_an_unfinished_folder_and_none(own_shards, tmp_path):
    (own_shards / "index.json").unlink()
    with pytest.raises(FormatError, match="the build is unfinished"):
        open_shards(own_shards)
    with pytest.raises(FormatError, match="is not a folder, a tar or a data set"):
        open_shards(tmp_path / "nothing")


def test_splits_as_they_are(shards_folder):
    shards = open_shards(shards_folder)
    splits, notes = choose_splits(shards, 0.1, 0)
    assert {name: len(numbers) for name, numbers in splits.items()} == {"train": 20, "val": 8, "test": 8}
    assert notes == []


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.4, 0.5, 0.9, 0.98])
def test_without_val_whole_groups_are_held_out(tmp_path, fraction):
    data = make_clips(tmp_path / "data", {"train/a": 12, "train/b": 12})
    shards = open_shards(build_shards(data, tmp_path / "shards", clips=2))  # the clips of a video are one group
    splits, notes = choose_splits(shards, fraction, 0)
    groups = {name: set(shards.samples["group"][numbers]) for name, numbers in splits.items()}
    assert not groups["train"] & groups["val"]
    assert sorted(np.concatenate([splits["train"], splits["val"]])) == list(range(48))
    assert len(splits["val"]) > 0 and abs(len(splits["val"]) - 48 * fraction) <= 4
    assert [note.split(":")[0] for note in notes] == ["no val split", "no test split"]
    again, _ = choose_splits(shards, fraction, 0)
    assert np.array_equal(again["val"], splits["val"])
    assert "test" not in splits


def with_groups(shards, rows):
    """A train split of (label, group) per clip, with nothing behind it."""
    samples = np.zeros(len(rows), shards.samples.dtype)
    samples["label_class"], samples["group"] = np.array(rows).T
    return dataclasses.replace(shards, samples=samples, heads=[Head("class", list("abcd"))])


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.25, 0.5, 0.9])
def test_rare_classes_are_on_both_sides_of_what_is_held_out(shards_folder, fraction):
    """Every class with two groups is in train and in val; the only group of another stays in train."""
    common = [(group % 2, group) for group in range(40)]
    shards = with_groups(open_shards(shards_folder), [*common, (2, 40), (2, 41), (2, 41), (3, 42), (3, 42)])
    labels, groups = shards.labels, shards.samples["group"]
    for seed in range(20):
        splits, _ = choose_splits(shards, fraction, seed)
        assert set(labels[splits["train"]]) == {0, 1, 2, 3}
        assert set(labels[splits["val"]]) == {0, 1, 2}
        assert not set(groups[splits["train"]]) & set(groups[splits["val"]])
        assert abs(len(splits["val"]) - fraction * 45) <= 5


def test_groups_of_several_classes_never_take_a_class_from_train(shards_folder):
    """Three classes, each in two of three groups: whichever is held out, train keeps all of them."""
    rows = [(0, 0), (1, 0), (1, 1), (2, 1), (0, 2), (2, 2)]
    shards = with_groups(open_shards(shards_folder), rows)
    for seed in range(5):
        splits, _ = choose_splits(shards, 0.5, seed)
        assert set(shards.labels[splits["train"]]) == {0, 1, 2}
        assert len(splits["val"]) == 2
    alone = with_groups(shards, [(0, 0), (1, 1), (2, 2)])
    with pytest.raises(FormatError, match="to hold out any group would take a class from train; build a val split"):
        choose_splits(alone, 0.4, 0)
    assert len(choose_splits(alone, 0.4, 0, by_class=False)[0]["val"]) == 1, "in regression classes do not matter"


def test_no_train_split_and_one_group(shards_folder):
    shards = open_shards(shards_folder)
    train = shards.samples[shards.numbers("train")].copy()
    train["group"] = 0
    with pytest.raises(FormatError, match="belong to one group"):
        choose_splits(dataclasses.replace(shards, samples=train), 0.1, 0)
    test = shards.samples[shards.numbers("test")]
    with pytest.raises(FormatError, match="has no train split"):
        choose_splits(dataclasses.replace(shards, samples=test), 0.1, 0)


def test_which_options_of_two_builds_make_other_clips():
    build = BuildSettings().to_dict()
    assert differing_options(build | {"clips": 2, "seed": 5}, build) == {"clips": (2, 1)}
    assert differing_options(build, build | {"boxes": "a" * 64}) == {"boxes": (False, True)}
    assert differing_options(build | {"boxes": "a" * 64}, build | {"boxes": "b" * 64}) == {}
    older = {name: value for name, value in build.items() if not name.startswith("face")}
    assert differing_options(older, build) == differing_options({}, build | {"clips": 2}) == {}
    assert differing_options(older, build | {"faces": True}) == {"faces": (False, True)}
