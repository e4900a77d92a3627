import re
from collections import defaultdict

import pytest
from made_trees import counts, faceforensics, jobs, make_tree, plan, write_ff_lists

from shardify.errors import UsageError
from shardify.sources.catalog import list_sources

OFFICIAL = {
    ("train", "real"): 720, ("val", "real"): 140, ("test", "real"): 140,
    ("train", "fake"): 2880, ("val", "fake"): 560, ("test", "fake"): 560,
}  # fmt: skip


def people_on_two_sides(built):
    """Identities, as the file names say them, with clips in more than one split."""
    splits = defaultdict(set)
    for job in jobs(built):
        for person in re.findall(r"\d{3}", job.path.stem):
            splits[person].add(job.split)
    return [person for person, sides in splits.items() if len(sides) > 1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The whole tree, without lists."""
    return faceforensics(tmp_path_factory.mktemp("whole") / "data")


def test_the_official_split(whole):
    lists = write_ff_lists(whole / "lists")
    built = plan(whole)
    for split in ("train", "val", "test"):
        (lists / f"{split}.json").unlink()
    assert counts(built) == OFFICIAL and people_on_two_sides(built) == []
    assert built.notes[:2] == [
        "FaceForensics++ (c23): 1000 real, 4000 fake; kinds Deepfakes, Face2Face, FaceSwap, NeuralTextures; "
        "split: official (test.json, train.json and val.json); 400 masks left out; "
        "3 videos of DeepFakeDetection (--layout deepfakedetection) left out",
        "class 0 real, class 1 fake (positive)",
    ]
    assert any("official split has no identity that is known by name in two splits" in note for note in built.notes)


@pytest.mark.parametrize("where", ["beside", "splits beside", "--split-file"])
def test_the_official_lists_may_lie_elsewhere(where, tmp_path):
    data = faceforensics(tmp_path / "parent" / "data", methods=("Deepfakes",))
    folders = {"beside": data.parent, "splits beside": data.parent / "splits", "--split-file": tmp_path}
    lists = write_ff_lists(folders[where])
    built = plan(data, **({"split_file": lists / "val.json"} if where == "--split-file" else {}))
    assert counts(built) == {key: count // (1 if key[1] == "real" else 4) for key, count in OFFICIAL.items()}
    assert "split: official (test.json, train.json and val.json); " in built.notes[0]


def test_our_own_split_tears_no_group(whole):
    built = plan(whole)
    assert people_on_two_sides(built) == [] and {job.split for job in jobs(built)} == {"train", "val", "test"}
    actors = {job.path.stem: job.group for job in jobs(built) if "__" in job.path.stem}
    assert actors == {
        "01__exit": "actor 01", "02__exit": "actor 02", "01_02__exit__ABCDEFGH": "actor 01"
    }  # fmt: skip
    assert "no official list was found" in built.notes[0]


def test_kind_and_original(tmp_path):
    pair = [f"manipulated_sequences/FaceShifter/c23/videos/{name}.mp4" for name in ("006_007", "007_006")]
    make_tree(tmp_path, *pair, *(f"original_sequences/youtube/{c}/videos/007.mp4" for c in ("c23", "c40")))
    built = plan(tmp_path)
    assert built.notes[0].startswith("FaceForensics++ (c23, c40): 2 real, 2 fake; kinds FaceShifter; ")
    found = {job.source: job for job in jobs(built)}
    fake = found["manipulated_sequences/FaceShifter/c23/videos/007_006.mp4"]
    assert (fake.class_name, fake.kind) == ("fake", "FaceShifter")
    assert fake.original == "original_sequences/youtube/c23/videos/007.mp4"
    real = found[fake.original]
    assert (real.class_name, real.kind, real.original) == ("real", "", "")


def test_deepfakedetection_alone(tmp_path):
    write_ff_lists(faceforensics(tmp_path, methods=()))
    built = plan(tmp_path, layout="deepfakedetection")
    found = {job.path.stem: job for job in jobs(built)}
    assert found.keys() == {"01__exit", "02__exit", "01_02__exit__ABCDEFGH"}
    fake = found["01_02__exit__ABCDEFGH"]
    assert (fake.class_name, fake.kind, fake.group) == ("fake", "DeepFakeDetection", "actor 01")
    assert fake.original == "original_sequences/actors/c23/videos/01__exit.mp4"
    assert "1000 videos of other data sets left out" in built.notes[0]


@pytest.mark.parametrize(
    "names",
    [
        ["000_c23.mp4", "003_c23.mp4", "000_003_c23.mp4", "003_000_Deepfakes_c23.mp4"],
        ["original/000.mp4", "original/003.mp4", "Deepfakes/000_003.mp4", "Deepfakes/003_000.mp4"],
    ],
)
def test_flat_copies(tmp_path, names):
    sources = {source.source: source for source in list_sources(make_tree(tmp_path, *names)).sources}
    assert [sources[name].class_name for name in names] == ["real", "real", "fake", "fake"]
    assert sources[names[2]].original == names[0] and sources[names[3]].kind == "Deepfakes"


def test_a_copy_whose_folder_says_the_compression(tmp_path):
    copy = make_tree(tmp_path / "data/FaceForensics++_C23", "original/000.mp4", "FaceSwap/000_003.mp4")
    make_tree(copy, "DeepFakeDetection/01_02__exit__ABCDEFGH.mp4")
    assert list_sources(tmp_path / "data").summary.startswith("FaceForensics++ (c23): 1 real, 2 fake; kinds DeepFake")


@pytest.mark.parametrize("names", [("01__exit", "01_02__exit__ABCDEFGH"), ("000", "000_003")])
def test_class_folders_whatever_the_names(tmp_path, names):
    make_tree(tmp_path, *(f"{folder}/{name}.mp4" for folder, name in zip("ab", names, strict=True)))
    assert {source.class_name for source in list_sources(tmp_path).sources} == {"a", "b"}


def test_class_folders_with_its_names_stay_classes(tmp_path):
    make_tree(tmp_path, "train/a/000.mp4", "train/b/000_003_c23.mp4", "test/a/010.mp4", "test/b/010_011_c23.mp4")
    catalog = list_sources(tmp_path)
    assert {source.class_name for source in catalog.sources} == {"a", "b"}
    assert {source.split for source in catalog.sources} == {"train", "test"}
    catalog = list_sources(tmp_path, layout="faceforensics")  # if it is asked for, the names tell
    assert {(source.path.stem, source.class_name) for source in catalog.sources} == {
        ("000", "real"), ("000_003_c23", "fake"), ("010", "real"), ("010_011_c23", "fake"),
    }  # fmt: skip


def test_the_layout_that_is_asked_for_must_be_there(tmp_path):
    make_tree(tmp_path, "real/a.mp4", "fake/b.mp4")
    for layout in ("faceforensics", "deepfakedetection", "dfdc", "dfdcpreview", "celebdf"):
        with pytest.raises(UsageError, match=r"is not laid out as .* it has no "):
            list_sources(tmp_path, layout=layout)
    assert list_sources(tmp_path, layout="folders").title == "class folders"


def test_folders_where_the_guess_is_wrong(tmp_path):
    make_tree(tmp_path, "original_sequences/000.mp4", "manipulated_sequences/000_003.mp4")
    assert plan(tmp_path, layout="folders").classes == ["original_sequences", "manipulated_sequences"]
