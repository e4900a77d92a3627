"""Shards folders that join training alone."""

import json
import shutil

import numpy as np
import pytest
from builds import run_build, unpack
from folders import build_shards, make_clips
from loading import frames_of
from media import noisy_picture
from PIL import Image
from runs import evaluation_of, run_small

from trainer.config.load import load_settings
from trainer.errors import FormatError, SettingsError, TrainerError
from trainer.evaluation.predictions import source_rows
from trainer.shards.extra import add_extra
from trainer.shards.mix import open_all
from trainer.shards.shard_set import open_shards
from trainer.shards.splits import choose_splits


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    """Five train clips, of which the classes stand in the other order, and three that are not for training."""
    data = make_clips(tmp_path_factory.mktemp("made") / "data", {"train/b": 4, "train/a": 1, "val/b": 1, "test/a": 2})
    return build_shards(data, data.parent / "synthetic")


def opened(*names, extra):
    shards = open_all(list(names))
    splits, _ = choose_splits(shards, 0.3, 0)
    return shards, splits, *add_extra(shards, splits, list(map(str, extra)))


def test_train_clips_join_training_and_nothing_else_changes(shards_folder, synthetic):
    shards, before, mixed, splits, notes = opened(shards_folder, extra=[synthetic])
    part = open_shards(synthetic)
    assert np.array_equal(splits["val"], before["val"]) and np.array_equal(splits["test"], before["test"])
    assert np.array_equal(splits["train"][: len(before["train"])], before["train"])
    added = splits["train"][len(before["train"]) :]
    assert len(added) == 5 and mixed.classes == shards.classes
    for number, own in zip(added, part.numbers("train"), strict=True):
        assert mixed.key(number) == part.key(own)
        assert mixed.classes[mixed.labels[number]] == part.classes[part.labels[own]]
        assert np.array_equal(frames_of(mixed, number), frames_of(part, own))
    assert notes[0].endswith("synthetic join training (a 1, b 4); its 3 clips of val and test are left out")
    assert mixed.fingerprint not in (shards.fingerprint, open_all([shards_folder, synthetic]).fingerprint)


def test_none_is_held_out_where_there_is_no_val(synthetic, tmp_path):
    own = build_shards(make_clips(tmp_path / "data", {"train/a": 6, "train/b": 6}, seed=3), tmp_path / "own")
    shards, before, _, splits, _ = opened(own, extra=[synthetic])
    assert np.array_equal(splits["val"], before["val"]) and splits["val"].max() < len(shards.samples)
    assert len(splits["train"]) == len(before["train"]) + 5


def test_synthetic_clips_of_the_folder_itself_are_not_held_out(tmp_path):
    names = [f"train/{name}/{i}.png" for name in "ab" for i in range(12)]
    for i, name in enumerate(names):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy_picture(i, 16, 16)).save(tmp_path / "data" / name)
    lines = [f"{name},{name[6]},train,{'yes' if i % 3 else 'no'}" for i, name in enumerate(names)]
    (tmp_path / "m.csv").write_text("\n".join(["path,class,split,synthetic", *lines]))
    run_build(tmp_path / "data", tmp_path / "s", manifest=tmp_path / "m.csv", frames=1, size=16)
    shards = open_all([tmp_path / "s"])
    splits, _ = choose_splits(shards, 0.5, 0)
    rows = source_rows(shards)
    assert [rows[number]["kind"] for number in splits["val"]] == [""] * 4
    assert sorted(rows[number]["kind"] for number in splits["train"]) == [""] * 4 + ["synthetic"] * 16


def test_several_of_each_and_unpacked_tars(shards_folder, synthetic, tmp_path):
    other = build_shards(make_clips(tmp_path / "data", {"train/a": 2, "train/b": 2}, seed=4), tmp_path / "other")
    unpack(shutil.copytree(synthetic, tmp_path / "unpacked"))
    _, before, mixed, splits, notes = opened(shards_folder, other, extra=[tmp_path / "unpacked"])
    assert [len(part.samples) for part in mixed.parts] == [36, 4, 5]
    assert len(splits["train"]) == len(before["train"]) + 5 and "unpacked join training" in notes[0]
    frames_of(mixed, splits["train"][-1])


def test_what_cannot_join(shards_folder, synthetic, tmp_path):
    named = build_shards(make_clips(tmp_path / "data", {"train/a": 1, "train/c": 1}), tmp_path / "named")
    with pytest.raises(SettingsError, match=r"data\.extra: .*named has the class c, which .*shards has not \(a, b\)"):
        opened(shards_folder, extra=[named])
    no_train = build_shards(make_clips(tmp_path / "data-2", {"val/a": 1, "test/b": 1}), tmp_path / "no-train")
    with pytest.raises(SettingsError, match="no-train has no train clip"):
        opened(shards_folder, extra=[no_train])
    with pytest.raises(FormatError, match="is named twice"):
        opened(shards_folder, extra=[shards_folder])
    with pytest.raises(SettingsError, match=r"data\.extra is 'syn/'; it must be none or a list, for example \[a, b\]"):
        load_settings(None, ("data.extra=syn/",))


def test_a_run_with_extra_clips(shards_folder, synthetic, tmp_path):
    run, moved = tmp_path / "run", tmp_path / "moved"
    record = run_small(shards_folder, run, f"data.extra=[{synthetic}]", "epochs=1")
    about = record["shards"]
    assert about["clips"] == {"train": 25, "val": 8, "test": 8}
    assert about["clips_per_class"]["train"] == {"a": 11, "b": 14}
    assert about["folders"] == [str(shards_folder)]
    assert about["extra"] == [{"folder": str(synthetic), "clips": 5}]
    assert any("5 clips of" in note for note in record["notes"])
    assert "synthetic join training (a 1, b 4)" in (run / "results" / "experiment_report.txt").read_text()
    assert json.loads((run / "results" / "experiment_results.json").read_text())["shards"] == about
    assert evaluation_of(run, shards_folder)["clips"] == 8
    shutil.copytree(synthetic, moved)
    again = run_small(shards_folder, run, f"data.extra=[{moved}]", "epochs=2", resume=True)
    assert again["epochs_trained"] == 2 and again["shards"]["extra"][0]["folder"] == str(moved)
    for names, extra in (([shards_folder, synthetic], "none"), (shards_folder, "none")):
        with pytest.raises(TrainerError, match="made on other shards"):
            run_small(names, run, f"data.extra={extra}", "epochs=2", resume=True)


def test_weights_have_one_for_each_folder(shards_folder, synthetic, tmp_path):
    record = run_small(shards_folder, tmp_path / "run", f"data.extra=[{synthetic}]", "data.weights=[1, 0]", "epochs=1")
    assert record["shards"]["clips"]["train"] == 20
    with pytest.raises(SettingsError, match="one number per shards folder"):
        run_small(shards_folder, tmp_path / "other", f"data.extra=[{synthetic}]", "data.weights=[1]", "epochs=1")
