from collections import Counter

from shardify.sources.splits import assign_splits


def assign(groups, classes=None, given=None, val=0.1, test=0.1, seed=0):
    count = len(groups)
    return assign_splits(
        groups, classes or ["a"] * count, given or [None] * count, val_fraction=val, test_fraction=test, seed=seed
    )


def test_fractions_are_met_and_groups_stay_whole():
    groups = [f"g{i // 3}" for i in range(3000)]
    splits = assign(groups)
    share = Counter(splits)
    assert abs(share["val"] / 3000 - 0.1) < 0.03
    assert abs(share["test"] / 3000 - 0.1) < 0.03
    assert len(set(zip(groups, splits, strict=True))) == 1000


def test_a_group_keeps_its_split_when_others_come():
    few = [f"g{i}" for i in range(500)]
    many = [f"h{i}" for i in range(2000)] + few
    assert assign(many)[2000:] == assign(few)


def test_small_sets_get_every_class_into_every_split():
    for seed in range(20):
        groups = [f"g{i}" for i in range(12)]
        splits = assign(groups, classes=["a", "b"] * 6, seed=seed)
        assert {(s, c) for s, c in zip(splits, ["a", "b"] * 6, strict=True)} == {
            (s, c) for s in ("train", "val", "test") for c in ("a", "b")
        }


def test_the_last_train_group_of_a_class_is_not_taken_away():
    assert "train" in assign(["only"], val=0.0, test=0.0)
    assert assign(["x", "y"], val=0.01, test=0.01).count("train") >= 1


def test_given_splits_win():
    splits = assign(["a", "a", "b"], given=["test", None, None], val=0.0, test=0.0)
    assert splits == ["test", "test", "train"]


def test_no_fractions_no_splits():
    assert set(assign([f"g{i}" for i in range(100)], val=0.0, test=0.0)) == {"train"}


def test_seed_changes_the_split():
    groups = [f"g{i}" for i in range(200)]
    assert assign(groups, seed=1) != assign(groups, seed=2)
