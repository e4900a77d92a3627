import pytest
from made_trees import counts, jobs, make_tree, plan

from shardify.errors import UsageError
from shardify.format.settings import BuildSettings
from shardify.sources.catalog import list_sources

PICTURES = BuildSettings(frames=1)


def whole(root, between="_"):
    """Two archives of each kind, each with two sequences of three pictures."""
    for kind in ("real", "fake"):
        for split in ("train", "test"):
            folder = root / f"{kind}{between}{split}"
            make_tree(folder, *(f"{a}/{kind}/{a}{s}/{i}.png" for a in (1, 2) for s in (3, 4) for i in (10, 11, 12)))
    return root


@pytest.mark.parametrize("between", ["_", " "])
def test_the_official_split(tmp_path, between):
    built = plan(whole(tmp_path / "deepfake_in_the_wild", between), PICTURES)
    assert built.notes[0] == "WildDeepfake: 24 real, 24 fake; split: official"
    assert counts(built) == {(split, kind): 12 for split in ("train", "test") for kind in ("real", "fake")}
    assert "official split has no identity that is known by name in two splits" in "\n".join(built.notes)


def test_val_is_carved_by_archives(tmp_path):
    built = plan(whole(tmp_path), BuildSettings(frames=1, val_fraction=0.5, seed=3))
    splits = {}
    for job in jobs(built):
        part, archive, *_ = job.source.split("/")
        assert splits.setdefault((part.split("_")[1], archive), job.split) == job.split
    assert set(splits.values()) == {"train", "val", "test"}


def test_pictures_beside_its_folders_fail(tmp_path):
    make_tree(whole(tmp_path), "covers/a.png")
    (stray,) = (source for source in list_sources(tmp_path).sources if source.error)
    assert stray.source == "covers/a.png" and "none of the folders of WildDeepfake" in stray.error


def test_videos_in_such_folders_are_another_data_set(tmp_path):
    make_tree(tmp_path, "real_train/1/a.mp4", "fake_train/1/b.mp4")
    with pytest.raises(UsageError, match="looks like a split"):
        list_sources(tmp_path)
    with pytest.raises(UsageError, match=r"not laid out as WildDeepfake is: it has no pictures such as 942.png"):
        list_sources(tmp_path, layout="wilddeepfake")
