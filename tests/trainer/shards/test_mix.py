"""Several shards folders as one: classes by name, groups and videos apart, how much of each, and what is refused."""

import dataclasses

import numpy as np
import pytest
from builds import unpack
from folders import build_shards, make_clips
from loading import frames_of
from runs import run_small
from version_1 import as_version_1

from shardify.format.records import Head
from trainer.config.load import load_settings
from trainer.data.loader import ClipLoader
from trainer.errors import FormatError, SettingsError
from trainer.shards.mix import drop_unweighted, mix_shards, open_all
from trainer.shards.shard_set import open_shards


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Ten clips of real and fake; six of fake, new and real, with two of them in val, unpacked as on Kaggle."""
    root = tmp_path_factory.mktemp("folders")
    first = make_clips(root / "data-1", {"train/fake": 4, "train/real": 4, "val/fake": 1, "val/real": 1})
    second = make_clips(root / "data-2", {"train/new": 2, "train/real": 2, "val/fake": 2}, seed=1)
    made = [build_shards(first, root / "one"), build_shards(second, root / "two", shard_size=1)]
    unpack(made[1])
    return made


def test_clips_and_labels_are_those_of_the_folders(folders):
    mixed, parts = open_all(folders), [open_shards(folder) for folder in folders]
    assert mixed.classes == ["real", "fake", "new"]
    assert mixed.folder_numbers.tolist() == [0] * 10 + [1] * 6
    numbers = [(part, number) for part in parts for number in range(len(part.samples))]
    for number, (part, own) in enumerate(numbers):
        assert mixed.classes[mixed.labels[number]] == part.classes[part.labels[own]]
        assert np.array_equal(frames_of(mixed, number), frames_of(part, own))
        assert mixed.where(number) == part.where(own)


def test_groups_videos_and_shards_of_two_folders_are_different_ones(folders):
    mixed, parts = open_all(folders), [open_shards(folder) for folder in folders]
    for field in ("group", "source"):
        count = sum(len(np.unique(part.samples[field])) for part in parts)
        assert len(np.unique(mixed.samples[field])) == count
    shards = {(split, shard) for split, shard in mixed.samples[["split", "shard"]].tolist()}
    assert shards == set(mixed.paths) and len(shards) == sum(len(part.paths) for part in parts)
    assert (mixed.samples["original"] == -1).all()


def test_an_original_stays_the_video_of_its_own_folder(folders):
    parts = [open_shards(folder) for folder in folders]
    second = parts[1].samples.copy()
    second["original"][0] = second["source"].max() + 3  # of an input without a clip
    object.__setattr__(parts[1], "samples", second)
    mixed = mix_shards(parts)
    first_source = mixed.samples["source"][10] - second["source"][0]
    assert mixed.samples["original"][10] == second["original"][0] + first_source
    assert first_source > parts[0].samples["source"].max()


def test_version_1_mixes_with_version_2(folders, tmp_path):
    old = as_version_1(
        build_shards(make_clips(tmp_path / "data", {"train/real": 3, "train/fake": 3}), tmp_path / "old")
    )
    mixed = open_all([old, folders[0]])
    assert mixed.classes == ["real", "fake"]
    assert len(np.unique(mixed.samples["source"])) == len(mixed.samples) == 16


@pytest.mark.parametrize("balanced", [False, True])
def test_weights_say_how_much_of_each_folder_an_epoch_takes(folders, balanced):
    loader = ClipLoader(folders, batch_size=5, weights=[1, 3], balanced=balanced, seed=2)
    of = loader.shards.folder_numbers
    seen = [np.concatenate([batch.numbers for batch in loader.batches(epoch)]) for epoch in range(30)]
    assert [np.bincount(of[numbers]).tolist() for numbers in seen] == [[3, 9]] * 30
    assert set(np.concatenate(seen)) == set(loader.numbers), "over the epochs every clip has its turn"
    if balanced:
        labels = loader.shards.labels[seen[0]][of[seen[0]] == 1]
        assert sorted(np.bincount(labels).tolist()) == [0, 4, 5]
    assert ClipLoader(folders, "val", weights=[1, 3]).order(0).tolist() == [8, 9, 14, 15], "evaluation takes all"


@pytest.mark.parametrize("weights", [[1], [1, 2, 3]])
def test_weights_that_do_not_go_with_the_folders(folders, weights):
    with pytest.raises(SettingsError, match=r"one number per shards folder.*one, .*two"):
        ClipLoader(folders, weights=weights)


@pytest.mark.parametrize("weights", [[0, 0], [-1, 2], [], 3, ["a", 1], [1, float("inf")], [1, float("nan")]])
def test_what_are_no_weights(folders, weights):
    with pytest.raises(SettingsError, match="a list of numbers is needed"):
        ClipLoader(folders, weights=weights)
    assert ClipLoader(folders, weights=np.array([1, 2])).options.weights == [1, 2]


def test_weights_of_a_folder_without_a_train_clip(folders, tmp_path):
    only = build_shards(make_clips(tmp_path / "data", {"test/real": 1, "test/fake": 1}), tmp_path / "only")
    with pytest.raises(SettingsError, match="only has no clip to train on; give it the weight 0"):
        ClipLoader([folders[0], only], weights=[1, 1])
    assert len(ClipLoader([folders[0], only], weights=[1, 0]).numbers) == 8


def test_a_position_is_of_the_same_weights(folders):
    state = ClipLoader(folders, weights=[1, 2]).state_dict() | {"step": 0, "epoch": 1}
    ClipLoader(folders, weights=[1, 2]).load_state_dict(state)
    for other in (ClipLoader(folders, weights=[2, 1]), ClipLoader(folders)):
        with pytest.raises(SettingsError, match=r"weights is .*, the state has \[1.0, 2.0\]"):
            other.load_state_dict(state | {"step": 1})


def test_equal_clips_on_two_sides_are_said(folders, tmp_path):
    data = make_clips(tmp_path / "data", {"train/fake": 4, "train/real": 4, "val/fake": 1, "val/real": 1})
    for split in ("train", "val"):
        (data / split).rename(data / f"was-{split}")
    (data / "was-train").rename(data / "val")
    (data / "was-val").rename(data / "train")
    swapped = build_shards(data, tmp_path / "swapped")
    assert any("10 clips of val and test are equal" in note for note in open_all([folders[0], swapped]).notes)
    assert not any("equal" in note for note in open_all(folders).notes)


def test_equal_clips_of_two_folders_are_of_one_group(folders, tmp_path):
    """So that none is held out of train where the other is trained on."""
    again = build_shards(folders[0].parent / "data-1", tmp_path / "again", shard_size=3)
    mixed = open_all([folders[0], again])
    assert np.array_equal(mixed.samples["group"][:10], mixed.samples["group"][10:])
    assert len(np.unique(mixed.samples["group"])) == 10


def test_targets_that_are_class_numbers_are_those_of_the_whole(folders):
    mixed = open_all(folders)
    assert np.array_equal(mixed.samples["target"], mixed.labels)


def test_a_folder_of_weight_0_is_left_out_of_training(folders):
    mixed = open_all(folders)
    assert drop_unweighted([0, 1], mixed, mixed.numbers("train")).tolist() == [10, 11, 12, 13]
    assert len(drop_unweighted(None, mixed, mixed.numbers("train"))) == 12


def test_class_1_that_is_real_is_said(folders):
    """As an early build may have put them."""
    turned = []
    for part in map(open_shards, folders):
        samples = part.samples.copy()
        samples["label_class"] %= 2
        turned.append(dataclasses.replace(part, heads=[Head("class", ["fake", "real"])], samples=samples))
    assert any("class 1, whose score is reported, is real" in note for note in mix_shards(turned).notes)
    assert not any("class 1" in note for note in open_all(folders).notes)


def test_what_cannot_be_mixed(folders, tmp_path):
    data = make_clips(tmp_path / "data", {"train/real": 1, "train/fake": 1})
    other = build_shards(data, tmp_path / "other", frames=3)
    with pytest.raises(FormatError, match=r"other: holds frames 3 × .*one frames 5 × .*same options"):
        open_all([folders[0], other])
    with pytest.raises(FormatError, match=r"one: is named twice; .*data\.weights"):
        open_all([folders[0], folders[0] / ".." / "one"])
    for name in ("index.json", "samples.npy", "samples.csv"):
        (other / name).unlink()
    with pytest.raises(FormatError, match="other: has no index"):
        open_all([folders[0], other])


def test_other_classes_and_other_options_are_said(folders, tmp_path):
    notes = open_all(folders).notes
    assert any("one: real, fake; " in note and "two: fake, new, real" in note for note in notes)
    data = make_clips(tmp_path / "data", {"train/real": 1, "train/fake": 1})
    other = build_shards(data, tmp_path / "other", quality=80)
    assert any("trainer.predict makes clips as" in note for note in open_all([folders[0], other]).notes)


def test_a_run_on_two_folders(folders, tmp_path):
    record = run_small(folders, tmp_path / "run", "data.weights=[1, 0.5]", "epochs=1")
    assert record["shards"]["folder"] == f"{folders[0]}, {folders[1]}"
    assert record["classes"] == ["real", "fake", "new"] and record["settings"]["data"]["weights"] == [1, 0.5]
    table = (tmp_path / "run" / "results" / "test_predictions.csv").read_text()
    assert [table.count(f"val/fake/val_fake_00{i}.mkv") for i in range(2)] == [2, 1]


@pytest.mark.parametrize("text", ["data.weights=0.5", "data.weights=[1, -1]", "data.weights=[a]"])
def test_weights_as_a_setting(text):
    assert load_settings(None, ("data.weights=[1, 2]",)).data.weights == [1.0, 2.0]
    with pytest.raises(SettingsError, match=r"data\.weights"):
        load_settings(None, (text,))
