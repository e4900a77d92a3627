import random
import re
from dataclasses import replace

import pytest
from made_trees import celebdf, counts, jobs, make_tree, plan

from shardify.build.plan import plan_build
from shardify.build.previous import Previous
from shardify.format.settings import BuildSettings
from shardify.format.words import SPLITS
from shardify.sources.catalog import list_sources


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return celebdf(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def built(whole):
    return plan(whole)


def first_person(job):
    return re.match(r"id\d+", job.path.stem)[0]


def test_the_official_test_list(built):
    found = counts(built)
    assert (found["test", "real"], found["test", "fake"]) == (178, 340)
    assert sum(found.values()) == 590 + 300 + 5639
    assert built.notes[:2] == [
        "Celeb-DF: 890 real, 5639 fake; kinds Celeb-real, Celeb-synthesis, YouTube-real; "
        "split: official (List_of_testing_videos.txt) for test, the rest is divided here",
        "class 0 real, class 1 fake (positive)",
    ]
    assert "Celeb-DF's official test list shares 59 identities between train, val and test; it wins over groups" in (
        built.notes
    )


def test_val_is_drawn_by_the_first_person(built):
    rest = [job for job in jobs(built) if job.split != "test" and job.path.stem.startswith("id")]
    val = {first_person(job) for job in rest if job.split == "val"}
    assert val and val.isdisjoint(first_person(job) for job in rest if job.split == "train")
    assert 0.03 < sum(job.split == "val" for job in rest) / len(rest) < 0.2


def test_without_a_list_the_first_person_is_in_one_split(tmp_path):
    for i in range(30):
        make_tree(tmp_path, f"Celeb-real/id{i}_0000.mp4", f"Celeb-synthesis/id{i}_id{(i + 1) % 30}_0000.mp4")
    splits = {}
    for job in jobs(plan(tmp_path)):
        if job.path.stem.startswith("id"):
            assert splits.setdefault(first_person(job), job.split) == job.split
    assert set(splits.values()) == {"train", "val", "test"}


def test_kind_and_original(tmp_path):
    make_tree(tmp_path / "v2", "Celeb-real/id0_0001.mp4", "YouTube-real/00000.mp4", "Celeb-synthesis/id0_id3_0001.mp4")
    make_tree(tmp_path / "v2", "Celeb-synthesis/FaceSwap/SimSwap/id0_id4_0001.mp4")
    found = {job.path.stem: job for job in jobs(plan(tmp_path))}
    assert {stem: job.kind for stem, job in found.items()} == {
        "id0_0001": "Celeb-real", "00000": "YouTube-real", "id0_id3_0001": "Celeb-synthesis", "id0_id4_0001": "SimSwap",
    }  # fmt: skip
    assert found["id0_id3_0001"].original == found["id0_id4_0001"].original == "v2/Celeb-real/id0_0001.mp4"
    assert found["00000"].original == "" and found["id0_id4_0001"].class_name == "fake"


def test_a_later_build_follows_the_list(whole):
    """What is added later goes where the list says, and the rest to its person's split, whatever came before."""
    catalog = list_sources(whole)
    some = sorted(random.Random(0).sample(range(len(catalog.sources)), 2000))
    first = replace(catalog, sources=[catalog.sources[i] for i in some])
    before = {job.source: job for job in jobs(plan_build(first, BuildSettings(), None))}
    rows = [{**vars(job), "class": job.class_name, "status": "ok", "source_bytes": ""} for job in before.values()]
    shards = {split: {"shards": []} for split in SPLITS}
    heads = [{"name": "class", "classes": ["real", "fake"]}]
    previous = Previous({"version": 2, "heads": heads, "splits": shards}, None, rows)
    later = replace(catalog, sources=[s for i, s in enumerate(catalog.sources) if i not in some[::10]])  # some are gone
    built = plan_build(later, BuildSettings(), previous)
    splits = {name: job.split for name, job in before.items()} | {job.source: job.split for job in jobs(built)}
    assert len(splits) == 590 + 300 + 5639 and not built.rejected and not built.renamed
    assert sum(split == "test" for split in splits.values()) == 518
    people = {}
    for name, split in splits.items():
        if split != "test" and (match := re.search(r"/(id\d+)_", name)):
            assert people.setdefault(match[1], split) == split
