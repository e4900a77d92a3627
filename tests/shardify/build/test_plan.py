from dataclasses import replace
from pathlib import Path

import pytest

from shardify.build.build_shard import plan_hash
from shardify.build.plan import ShardPlan, plan_build
from shardify.build.previous import Previous
from shardify.errors import UsageError
from shardify.format.settings import BuildSettings
from shardify.format.words import SPLITS
from shardify.sources.catalog import Catalog, Source


def source(name, split=None, **more):
    return Source(Path("/data") / name, name, name.split("/")[0], split, **more)


def many(count=30, classes=("real", "fake")):
    return [source(f"{name}/{i:03d}x.mp4") for name in classes for i in range(count)]


def plan(sources, settings=None, previous=None, **more):
    return plan_build(Catalog(sources), settings or BuildSettings(), previous, **more)


def splits_of(built):
    return {job.source: job.split for shard in built.shards for job in shard.jobs}


def previous_of(splits, classes=("real", "fake")):
    rows = [
        {"source": name, "split": split, "class": name.split("/")[0], "source_bytes": "", "group": name, "status": "ok"}
        for name, split in splits.items()
    ]
    shards = {split: {"shards": [{"name": f"{split}-000000.tar"}]} for split in SPLITS}
    heads = [{"name": "class", "classes": list(classes)}]
    return Previous({"version": 2, "heads": heads, "splits": shards}, None, rows)


def test_every_source_is_in_one_shard_or_rejected():
    sources = [*many(), source("stray.mp4", error="lies in no class folder")]
    built = plan(sources)
    assert sorted(splits_of(built)) == sorted(s.source for s in many())
    assert [row["source"] for row in built.rejected] == ["stray.mp4"]
    assert built.rejected[0]["error"] == "lies in no class folder" and built.rejected[0]["split"] == ""


def test_shards_are_shuffled_even_and_not_too_large():
    built = plan(many(150), BuildSettings(shard_size=64, val_fraction=0, test_fraction=0))
    sizes = [len(shard.jobs) for shard in built.shards]
    assert sum(sizes) == 300 and max(sizes) - min(sizes) <= 1 and max(sizes) <= 64
    assert all(20 < sum(job.label for job in shard.jobs) < 40 for shard in built.shards)


def test_carving_takes_from_train_only():
    sources = [source(f"real/{i:03d}x.mp4", "train") for i in range(50)]
    sources += [source(f"fake/{i:03d}x.mp4", "train") for i in range(50)] + [source("fake/t.mp4", "test")]
    assert set(splits_of(plan(sources)).values()) == {"train", "test"}
    carved = plan(sources, BuildSettings(val_fraction=0.3, test_fraction=0.3))
    splits = splits_of(carved)
    assert [name for name, split in splits.items() if split == "test"] == ["fake/t.mp4"]
    assert 15 < list(splits.values()).count("val") < 50
    assert any("test is laid out already" in note for note in carved.notes)


def test_new_videos_follow_their_group_and_old_ones_stay():
    old = {"real/033.mp4": "test", "fake/033_097.mp4": "test", "real/500.mp4": "train"}
    sources = [source(name) for name in (*old, "fake/097_033.mp4")]
    built = plan(sources, previous=previous_of(old))
    assert splits_of(built) == {"fake/097_033.mp4": "test"}
    assert [shard.number for shard in built.shards] == [1]


def test_a_new_video_that_would_join_two_splits_is_rejected_with_a_reason():
    old = {"real/033.mp4": "test", "fake/033_034.mp4": "test", "real/500.mp4": "train", "fake/500_501.mp4": "train"}
    built = plan([source(name) for name in (*old, "fake/033_500.mp4")], previous=previous_of(old))
    assert not built.shards
    assert "fits into no split" in built.rejected[0]["error"]


def test_what_is_rejected_connects_nobody():
    old = {"real/033.mp4": "test", "fake/033_034.mp4": "test", "real/500.mp4": "train", "fake/500_501.mp4": "train"}
    previous = previous_of(old)
    previous.rows.append(
        {**previous.rows[0], "source": "fake/033_500.mp4", "group": "x", "status": "failed", "split": ""}
    )
    built = plan([source(name) for name in (*old, "fake/033_500.mp4", "fake/033_900.mp4")], previous=previous)
    assert splits_of(built) == {"fake/033_900.mp4": "test"} and not built.rejected
    assert not built.renamed or set(built.renamed.values()) == {"real/033.mp4", "real/500.mp4"}


def test_groups_that_earlier_builds_have_torn_are_named():
    old = {"real/033.mp4": "test", "fake/097_033.mp4": "train"}
    built = plan([source(name) for name in (*old, "fake/033_097.mp4")], previous=previous_of(old))
    assert "fits into no split" in built.rejected[0]["error"] and built.rejected[0]["split"] == ""
    assert any(note.startswith("warning: 1 groups lie in several splits") for note in built.notes)


def test_new_classes_get_new_numbers():
    old = {"cat/1.mp4": "train", "dog/1.mp4": "train"}
    built = plan([source(name) for name in (*old, "ant/1.mp4")], previous=previous_of(old, classes=("cat", "dog")))
    assert built.classes == ["cat", "dog", "ant"]


def test_targets_of_some_are_an_error():
    sources = [replace(source, target=1.5 if i else None) for i, source in enumerate(many(2))]
    with pytest.raises(UsageError, match=rf"1 of 4 rows .* have no target, the first: {sources[0].source}"):
        plan_build(Catalog(sources, columns=("path", "class", "target")), BuildSettings(), None)


def test_one_class_is_an_error_unless_there_are_targets():
    with pytest.raises(UsageError, match=r"only one class \(real\)"):
        plan(many(classes=("real",)))
    built = plan_build(Catalog(many(classes=("real",)), columns=("path", "class", "target")), BuildSettings(), None)
    assert built.classes == ["real"]


def test_missing_boxes_are_rejected_rows():
    sources = many(5)
    built = plan(sources, boxes={sources[0].source: (0, 0, 8, 8)})
    assert len(built.rejected) == 9 and splits_of(built).keys() == {sources[0].source}


def test_dropped_sources_are_planned_again_in_their_split():
    old = {"real/000x.mp4": "val", "real/001x.mp4": "test"}
    previous = replace(previous_of(old), dropped=frozenset(["real/000x.mp4"]))
    built = plan([source(name) for name in (*old, "fake/new.mp4")], previous=previous)
    assert splits_of(built).keys() == {"real/000x.mp4", "fake/new.mp4"}
    assert splits_of(built)["real/000x.mp4"] == "val"


def test_a_test_split_alone_may_have_one_class():
    built = plan([source(f"real/{i}.mp4", "test") for i in range(3)])
    assert built.classes == ["real"] and set(splits_of(built).values()) == {"test"}
    assert any(note.startswith("warning: only one class (real), in a test split alone") for note in built.notes)
    with pytest.raises(UsageError, match="only one class"):
        plan([source("real/1.mp4", "test"), source("real/2.mp4", "train")])


def test_what_a_record_says_of_a_video_is_part_of_its_shards_hash():
    (job,) = plan([source("real/1.mp4", "test")]).shards[0].jobs
    plans = [
        ShardPlan("train", 0, (replace(job, **change),)) for change in ({}, {"kind": "x"}, {"original": "real/a.mp4"})
    ]
    assert len({plan_hash(shard, BuildSettings()) for shard in plans}) == 3


def test_classes_that_an_earlier_build_has_upside_down():
    old = {"manipulated/1.mp4": "train", "original/1.mp4": "train"}
    sources = [source(name) for name in (*old, "original/2.mp4")]
    built = plan(sources, previous=previous_of(old, classes=("manipulated", "original")))
    assert built.notes[0] == (
        "class 0 manipulated, class 1 original (positive); warning: an earlier build has put fake first, a new folder "
        "has it second"
    )
    assert plan(sources).notes[0] == "class 0 original, class 1 manipulated (positive)"
