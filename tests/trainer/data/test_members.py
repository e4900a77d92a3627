"""Clips with several members and heads, folders of format version 1, and frames of any size."""

import shutil

import numpy as np
import pytest
import torch
from builds import unpack
from folders import FRAMES, SIZE, build_shards, make_clips
from loading import damage, frames_of
from runs import evaluation_of, run_small
from two_members import add_depth, depth_of
from version_1 import as_version_1

from trainer import ClipLoader
from trainer.data.cache import ClipCache
from trainer.errors import FormatError, SettingsError
from trainer.shards.shard_set import open_shards, videos_of

BOTH = ("frames", "depth")  # in the tars the second one comes first


@pytest.fixture(scope="module")
def deep_folder(shards_folder, tmp_path_factory):
    """`shards_folder` with a second member."""
    return add_depth(shutil.copytree(shards_folder, tmp_path_factory.mktemp("deep") / "shards"))


@pytest.fixture
def own_deep(deep_folder, tmp_path):
    return shutil.copytree(deep_folder, tmp_path / "deep")


def expected_of(shards, numbers):
    """By member, as models take them."""
    frames = np.stack([frames_of(shards, number) for number in numbers])
    return {"depth": depth_of(frames), "frames": frames.transpose(0, 1, 4, 2, 3)}


def check_members(shards, batch, counts=slice(None)):
    expected = expected_of(shards, batch.numbers[counts])
    for name, values in batch.members.items():
        assert values.numpy().dtype == expected[name].dtype
        assert np.array_equal(values.numpy()[counts], expected[name])


@pytest.mark.parametrize("cache", ["none", "ram", "host"])
@pytest.mark.parametrize("is_unpacked", [False, True])
def test_members_come_by_name(own_deep, deep_folder, is_unpacked, cache):
    if is_unpacked:
        unpack(own_deep)
    shards = open_shards(own_deep)
    loader = ClipLoader(shards, batch_size=8, members=BOTH, cache="none" if cache == "host" else cache)
    if cache == "host":  # as beside a GPU
        loader._host_cache = ClipCache(20, {name: shards.members[name] for name in BOTH}, loader.device, stored=True)
    for epoch in range(2):
        batches = list(loader.batches(epoch))
        assert np.array_equal(np.concatenate([batch.numbers for batch in batches]), loader.order(epoch))
        for batch in batches:
            assert tuple(batch.members) == BOTH and batch.clips is batch.members["frames"]
            check_members(open_shards(deep_folder), batch)
    assert loader.hit_rate == (0.0 if cache == "none" else 0.5)


def test_what_lies_between_the_first_and_the_last_member_is_read_at_once(deep_folder):
    shards = open_shards(deep_folder)
    sheet, depth = shards.read(3, BOTH)
    assert depth.obj is sheet.obj, "two views of what one read gave"
    assert [bytes(sheet), bytes(depth)] == [*shards.read(3), *shards.read(3, ["depth"])]


def test_for_any_training_loop_too(deep_folder):
    shards, loader = open_shards(deep_folder), ClipLoader(deep_folder, batch_size=8, members=BOTH[::-1])
    assert shards.classes == ["a", "b"], "of the primary head"
    for (values, labels), batch in zip(loader, ClipLoader(deep_folder, batch_size=8).batches(0), strict=True):
        assert tuple(values) == BOTH[::-1] and tuple(batch.members) == ("frames",)
        assert all(value.is_contiguous() for value in values.values())
        expected = expected_of(shards, batch.numbers)
        assert all(np.array_equal(values[name].numpy(), expected[name]) for name in BOTH)
        assert labels.tolist() == shards.samples["label_class"][batch.numbers].tolist()


@pytest.mark.parametrize("members", ["depth", ("depth",)])
def test_one_member_is_one_tensor(deep_folder, members):
    shards = open_shards(deep_folder)
    clips = torch.cat([clips for clips, _ in ClipLoader(shards, "val", 3, members=members)])
    assert clips.dtype == torch.float16 and clips.shape == (8, FRAMES, SIZE, SIZE)
    assert np.array_equal(clips.numpy(), expected_of(shards, shards.numbers("val"))["depth"])


def test_a_member_that_is_not_there_is_refused_by_name(deep_folder):
    with pytest.raises(SettingsError, match=r"members has 'sound'; the clips of \S+ have frames, depth$"):
        ClipLoader(deep_folder, members=("frames", "sound"))


def test_a_pass_over_members_resumes_in_its_middle(deep_folder):
    loader = ClipLoader(deep_folder, batch_size=4, members=BOTH)
    passes = iter(loader)
    for _ in range(2):
        next(passes)
    other = ClipLoader(deep_folder, batch_size=4, members=BOTH)
    other.load_state_dict(loader.state_dict())
    for (found, found_labels), (expected, labels) in zip(other, passes, strict=True):
        assert torch.equal(found_labels, labels)
        assert all(torch.equal(found[name], expected[name]) for name in BOTH)


@pytest.mark.parametrize("is_unpacked", [False, True])
@pytest.mark.parametrize("member", BOTH)
def test_a_damaged_member_is_a_damaged_clip(own_deep, deep_folder, member, is_unpacked):
    if is_unpacked:
        unpack(own_deep)
    sound = open_shards(deep_folder)
    train, val = (sound.numbers(split) for split in ("train", "val"))
    key = damage(own_deep, int(train[5]), member)
    damage(own_deep, int(val[2]), member)
    with pytest.raises(FormatError, match=rf"train-00000\d(\.tar)?: clip {key}: payload differs"):
        list(ClipLoader(own_deep, members=BOTH))
    loader = ClipLoader(own_deep, batch_size=8, members=BOTH, on_error="skip", max_errors=0.1, cache="ram")
    for epoch in range(2):
        batches, order = list(loader.batches(epoch)), loader.order(epoch)
        numbers = np.concatenate([batch.numbers for batch in batches])
        assert np.array_equal(numbers, np.where(order == train[5], train[6], order))
        for batch in batches:
            check_members(sound, batch)
    assert list(loader.damaged) == [train[5]]
    for batch in ClipLoader(own_deep, "val", 3, members=BOTH, on_error="skip", max_errors=0.5).batches(0):
        assert np.array_equal(batch.mask, batch.numbers != val[2])
        check_members(sound, batch, batch.mask)
    (other,) = set(BOTH) - {member}
    for split in ("train", "val"):  # which does not read what is damaged
        assert sum(len(batch.mask) for batch in ClipLoader(own_deep, split, members=[other]).batches(0)) in (20, 8)


@pytest.mark.parametrize("is_0_1_0", [False, True])
def test_version_1_is_the_same_clips(own_shards, shards_folder, tmp_path, is_0_1_0):
    as_version_1(own_shards, is_0_1_0)
    old, new = open_shards(own_shards), open_shards(shards_folder)
    assert (old.members, old.heads) == (new.members, new.heads)
    assert np.array_equal(old.labels, new.labels) and old.labels.sum() > 0
    for a, b in zip(*(ClipLoader(shards, batch_size=8).batches(1) for shards in (old, new)), strict=True):
        assert np.array_equal(a.seeds, b.seeds) and torch.equal(a.clips, b.clips)
    if is_0_1_0:
        return
    record = run_small(own_shards, tmp_path / "run", "epochs=1")
    assert run_small(shards_folder, tmp_path / "new", "epochs=1")["test"] == record["test"]
    for folder in (own_shards, shards_folder):
        assert evaluation_of(tmp_path / "run", folder) == record["evaluation"]


def test_clips_of_one_video_are_told_in_both_versions(tmp_path):
    data = make_clips(tmp_path / "data", {"train/a": 2, "train/b": 1})
    folder = build_shards(data, tmp_path / "shards", clips=2)
    numbers = np.array([3, 0, 1, 2, 5, 4])
    new = videos_of(open_shards(folder), numbers)
    old = videos_of(open_shards(as_version_1(folder)), numbers)
    for videos in (new, old):
        assert videos[0] == videos[3] and videos[1] == videos[2] and videos[4] == videos[5]
        assert len(set(videos.tolist())) == 3


@pytest.mark.parametrize(("size", "frames"), [(9, 5), (20, 4), (23, 1)])
def test_sizes_that_are_no_multiple_of_8(tmp_path, size, frames):
    """A sheet's cells are larger then; what is in them beside the frames is cut off, in a lone tar as well."""
    data = make_clips(tmp_path / "data", {"train/a": 2, "train/b": 2})
    folder = build_shards(data, tmp_path / "shards", size=size, frames=frames)
    shards = open_shards(folder)
    lone = open_shards(shutil.copy(folder / "train-000000.tar", tmp_path / "lone.tar"))
    assert shards.first_member.cell > shards.size == size
    for each in (shards, lone):
        for cache in ("none", "ram"):
            loader = ClipLoader(each, batch_size=3, cache=cache)
            for epoch in range(2):
                for batch in loader.batches(epoch):
                    assert batch.clips.shape[1:] == (frames, 3, size, size)
                    expected = np.stack([frames_of(shards, number) for number in batch.numbers])
                    assert np.array_equal(batch.clips.permute(0, 1, 3, 4, 2).numpy(), expected)
