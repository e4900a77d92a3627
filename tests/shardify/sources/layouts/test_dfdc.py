import json

import pytest
from made_trees import counts, dfdc, jobs, make_tree, plan

from shardify.errors import NothingToBuildError
from shardify.sources.catalog import list_sources


def test_parts_have_every_fake_beside_its_original(tmp_path):
    built = plan(dfdc(tmp_path))
    assert sum(counts(built).values()) == 150 and built.classes == ["real", "fake"]
    assert built.notes[0] == "DFDC: 30 real, 120 fake; split: drawn here"
    found = {job.source: job for job in jobs(built)}
    fakes = [job for job in found.values() if job.class_name == "fake"]
    assert len(fakes) == 120 and {job.split for job in fakes} == {"train", "val", "test"}
    assert all(found[job.original].split == job.split and found[job.original].group == job.group for job in fakes)
    assert found["dfdc_train_part_1/f123.mp4"].original == "dfdc_train_part_1/o12.mp4"


def test_one_part_and_a_video_that_is_not_in_its_list(tmp_path):
    dfdc(tmp_path, 1)
    part = make_tree(tmp_path / "dfdc_train_part_0", "other.mp4")
    built = plan(part)
    assert len(jobs(built)) == 50
    make_tree(part, *(f"unlabelled{i}.mp4" for i in range(50)))
    with pytest.raises(NothingToBuildError):  # not believed unasked
        list_sources(part)
    built = plan(part, layout="dfdc")
    assert len(jobs(built)) == 50 and len(built.rejected) == 51
    assert {row["error"] for row in built.rejected} == {"has no label in metadata.json or labels.csv; take it out"}


def test_with_a_manifest_fakes_stay_with_their_originals(tmp_path):
    dfdc(tmp_path / "data")
    rows = [f"{path.relative_to(tmp_path / 'data')},{path.stem[0]}" for path in (tmp_path / "data").rglob("*.mp4")]
    (tmp_path / "m.csv").write_text("\n".join(["path,class", *rows]))
    built = plan(tmp_path / "data", manifest=tmp_path / "m.csv")
    found = {job.source: job for job in jobs(built)}
    assert all(found[job.original].split == job.split for job in found.values() if job.class_name == "f")
    assert any(note.startswith("grouped by DFDC's metadata.json: 30 groups") for note in built.notes)


def test_the_labelled_test_set(tmp_path):
    dfdc(tmp_path / "train")
    make_tree(tmp_path / "test", *(f"t{i}.mp4" for i in range(10)))
    (tmp_path / "test/labels.csv").write_text("filename,label\n" + "".join(f"t{i}.mp4,{i % 2}\n" for i in range(10)))
    built = plan(tmp_path)
    assert "split: official for test, the rest is divided here" in built.notes[0]
    found = counts(built)
    assert (found["test", "real"], found["test", "fake"]) == (5, 5)
    assert found["train", "fake"] + found["val", "fake"] == 120 and found["val", "fake"] >= 4
    assert {job.class_name for job in jobs(built) if job.path.stem == "t1"} == {"fake"}


def test_the_preview(tmp_path):
    entries = {
        "original_videos/1/1_A_001.mp4": {"label": "real", "set": "train", "target_id": 1, "augmentations": []},
        "original_videos/2/2_A_001.mp4": {"label": "real", "set": "test", "target_id": 2, "augmentations": []},
        "method_A/1/1_A/2_1_A_001.mp4": {"label": "fake", "set": "train", "target_id": 1, "swapped_id": 2},
        "method_B/2/2_A/1_2_A_001.mp4": {"label": "fake", "set": "test", "target_id": 1, "swapped_id": 1},
    }
    make_tree(tmp_path, *entries)
    (tmp_path / "dataset.json").write_text(json.dumps(entries))
    built = plan(tmp_path)
    assert built.notes[0] == "DFDC preview: 2 real, 2 fake; kinds method_A, method_B; split: official"
    found = {job.source: (job.class_name, job.split, job.kind, job.group) for job in jobs(built)}
    assert found["method_B/2/2_A/1_2_A_001.mp4"] == ("fake", "test", "method_B", "actor 1")
    assert found["original_videos/1/1_A_001.mp4"] == ("real", "train", "", "actor 1")
    assert any("shares 1 identities between train and test" in note for note in built.notes)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[1]",
        '{"a.mp4": 5}',
        '{"a.mp4": {"label": ["FAKE"]}}',
        '{"a.mp4": {"label": "FAKE", "original": []}}',
    ],
)
@pytest.mark.parametrize("name", ["metadata.json", "dataset.json"])
def test_any_other_metadata_is_not_believed(tmp_path, text, name):
    make_tree(tmp_path, "real/a.mp4", "fake/b.mp4")
    (tmp_path / name).write_text(text)
    assert list_sources(tmp_path).title == "class folders"


def test_labels_of_something_else_are_not_believed(tmp_path):
    make_tree(tmp_path, "real/a.mp4", "fake/b.mp4")
    (tmp_path / "labels.csv").write_text("filename,label\na.mp4,1\nb.mp4,0\n")
    assert [source.class_name for source in list_sources(tmp_path).sources] == ["fake", "real"]
