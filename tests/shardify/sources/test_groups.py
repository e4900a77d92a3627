import re
from dataclasses import replace

import pytest

from shardify.errors import UsageError
from shardify.sources.catalog import Catalog, Source
from shardify.sources.groups import check_groups, group_names


def catalog_of(*names, **more):
    return Catalog([Source(None, name, name.split("/")[0], None) for name in names], **more)


def grouped(catalog, group_by=None):
    names, _ = group_names(catalog, group_by)
    return dict(zip([s.source for s in catalog.sources], names, strict=True))


def test_without_a_group_every_video_is_its_own():
    catalog = catalog_of("real/a.mp4", "fake/a.mp4", "real/003.mp4")
    assert grouped(catalog) == {source.source: source.key for source in catalog.sources}


def test_faceforensics_pairs_join_transitively():
    found = grouped(catalog_of("real/033.mp4", "real/097.mp4", "fake/033_097.mp4", "fake/097_033.mp4", "real/500.mp4"))
    assert {found[f"{name}.mp4"] for name in ("real/033", "real/097", "fake/033_097", "fake/097_033")} == {"033"}
    assert found["real/500.mp4"] == "500"


def test_chains_join_end_to_end():
    found = grouped(catalog_of("fake/001_002.mp4", "fake/002_003.mp4", "fake/003_004.mp4", "fake/010_011.mp4"))
    assert len({found[f"fake/{pair}.mp4"] for pair in ("001_002", "002_003", "003_004")}) == 1
    assert found["fake/010_011.mp4"] != found["fake/001_002.mp4"]


def test_dfdc_fake_belongs_with_its_original():
    catalog = catalog_of(
        "FAKE/x.mp4", "FAKE/y.mp4", "REAL/o.mp4", "REAL/p.mp4", originals={"x.mp4": "o.mp4", "y.mp4": "o.mp4"}
    )
    found = grouped(catalog)
    assert found["FAKE/x.mp4"] == found["FAKE/y.mp4"] == found["REAL/o.mp4"] != found["REAL/p.mp4"]


def test_group_by_expression_takes_its_groups_or_the_whole_match():
    catalog = catalog_of("real/anna_1.mp4", "fake/anna_2.mp4", "real/bob_1.mp4", "real/other.mp4")
    by_name = grouped(catalog, r"/([a-z]+)_\d")
    assert by_name["real/anna_1.mp4"] == by_name["fake/anna_2.mp4"] == "anna" != by_name["real/bob_1.mp4"]
    assert by_name["real/other.mp4"] == catalog.sources[3].key
    assert grouped(catalog, r"anna|bob")["real/bob_1.mp4"] == "bob"


def test_group_by_column():
    rows = {"a.mp4": {"person": "p1"}, "b.mp4": {"person": "p1"}, "c.mp4": {"person": ""}}
    catalog = catalog_of("a.mp4", "b.mp4", "c.mp4", columns=("path", "class", "person"), rows=rows)
    found = grouped(catalog, "person")
    assert found["a.mp4"] == found["b.mp4"] == "p1"
    assert found["c.mp4"] == catalog.sources[2].key


@pytest.mark.parametrize(("group_by", "message"), [("(", "no column and no regular"), ("zzz", "matches no path")])
def test_group_by_that_makes_no_sense(group_by, message):
    with pytest.raises(UsageError, match=message):
        group_names(catalog_of("real/a.mp4"), group_by)


def test_groups_must_not_straddle_given_splits():
    sources = [
        Source(None, "train/real/033.mp4", "real", "train"),
        Source(None, "test/fake/033_097.mp4", "fake", "test"),
    ]
    groups, by = group_names(Catalog(sources), None)
    with pytest.raises(UsageError, match=re.escape("group 033 (by FaceForensics++) lies in 2 splits")):
        check_groups(Catalog(sources), groups, by)
    groups, by = group_names(Catalog(sources), "none")
    check_groups(Catalog(sources), groups, by)


def test_pieces_of_a_video_stay_together_whatever_their_groups():
    names = ("a.mp4#t=0,1", "a.mp4#t=1,2", "b.mp4#t=0,1", "a.mp4")
    catalog = catalog_of(*names)
    found = grouped(catalog)
    assert found[names[0]] == found[names[1]] == found["a.mp4"] == catalog.sources[3].key != found[names[2]]
    assert len(set(grouped(catalog, "none").values())) == 4 and group_names(catalog, None)[1] == "pieces of one video"
    sources = [replace(source, group=f"g{number}") for number, source in enumerate(catalog.sources)]
    found = grouped(replace(catalog, sources=sources, columns=("group",)))
    assert [found[name] for name in names] == ["g0", "g0", "g2", "g0"]


def test_celeb_df_pairs_swallow_the_data_and_stop_the_build():
    names = [f"fake/id{i}_id{i + 1}_0000.mp4" for i in range(20)] + [f"real/id{i}_0001.mp4" for i in range(20)]
    catalog = catalog_of(*names)
    groups, by = group_names(catalog, None)
    with pytest.raises(UsageError, match=r"puts 40 of 40 videos into one group.*--group-by") as stopped:
        check_groups(catalog, groups, by)
    advice = re.search(r"--group-by '([^']+)'", str(stopped.value))[1]
    groups, by = group_names(catalog, advice)  # what the message says to pass works
    check_groups(catalog, groups, by)
    assert len(set(groups)) == 20
