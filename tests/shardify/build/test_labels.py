"""Several labels of a clip, from a manifest's columns `label.NAME` to every table that names them."""

import json
import shutil

import numpy as np
import pytest
from builds import make_videos, reseal, run_build, tree, video_names
from click.testing import CliRunner

from shardify.build.request import Changes
from shardify.cli.main import main
from shardify.errors import UsageError
from shardify.format.index import read_index, read_rows
from shardify.format.tar import read_shard
from shardify.tools.preview import write_preview
from shardify.tools.repair import repair_folder
from shardify.tools.verify import verify_folder

SPECIES = ("2", "", "10", "9", "2", "9")


def write_manifest(path, species=SPECIES, behaviour=("run", "sit")):
    """Twelve videos, two of them behaviours by turns, species from a list; the last one has no label at all."""
    names = video_names(12)
    rows = [f"{name},{species[k % len(species)]},{behaviour[k % 2]}\n" for k, name in enumerate(names[:-1])]
    path.write_text("path,Label.Species,label.behaviour\n" + "".join(rows) + f"{names[-1]},,\n")
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    data = make_videos(folder / "data", video_names(12))
    run_build(data, folder / "s", manifest=write_manifest(folder / "m.csv"), shard_size=100)
    return data, folder / "s"


def records(shards):
    """key → `<key>.json` of every clip."""
    files = [file for tar in shards.glob("*.tar") for file in read_shard(tar) if file[0].endswith(".json")]
    return {record["key"]: record for record in (json.loads(content) for _, _, content in files)}


def test_tables_and_records_have_every_label(made):
    index, rows = read_index(made[1]), read_rows(made[1])
    assert [(head.name, head.classes) for head in index.heads] == [
        ("behaviour", ["run", "sit"]),  # species has empty cells, so it cannot be the primary one
        ("species", ["2", "9", "10"]),
    ]
    given = {name: (["run", "sit"][k % 2], SPECIES[k % 6]) for k, name in enumerate(video_names(12)[:-1])}
    clips, found = [row for row in rows if row["status"] == "ok"], records(made[1])
    assert {row["source"] for row in clips} == set(given)
    for row, sample in zip(clips, index.samples, strict=True):
        behaviour, species = given[row["source"]]
        labels = {"behaviour": ["run", "sit"].index(behaviour), "species": ["2", "9", "10", ""].index(species)}
        labels["species"] = -1 if species == "" else labels["species"]
        assert found[row["key"]]["labels"] == labels
        assert found[row["key"]]["classes"] == {"behaviour": behaviour, "species": species}
        assert {name: int(row[f"label.{name}"]) for name in labels} == labels
        assert {name: sample[f"label_{name}"] for name in labels} == labels
        assert (row["class"], int(row["label"])) == (behaviour, labels["behaviour"])
    (failed,) = [row for row in rows if row["status"] == "failed"]
    assert "has no label; fill in label.behaviour and label.species" in failed["error"]


def test_people_see_every_label(made, tmp_path):
    data, shards = made
    printed = CliRunner().invoke(main, ["info", str(shards)]).output
    assert "species" in printed and "unlabelled" in printed and "run" in printed
    about = json.loads(CliRunner().invoke(main, ["info", str(shards), "--json"]).output)
    assert sum(split["heads"]["species"].get("", 0) for split in about["splits"].values()) == 2
    assert sum(sum(split["heads"]["species"].values()) for split in about["splits"].values()) == 11
    card = (shards / "README.md").read_text()
    assert "| behaviour | run | sit | shards | failed |" in card and "| species | 2 | 9 | 10 | unlabelled |" in card
    manifest = write_manifest(tmp_path / "m.csv")
    options = ["--manifest", str(manifest), "--frames", "4", "--size", "32"]
    planned = CliRunner().invoke(main, ["plan", str(data), *options]).output
    assert "species: class 0 2, class 1 9, class 2 10" in planned and "heads behaviour, species" in planned
    assert [line.split()[-2:] for line in planned.splitlines() if "unlabelled" in line] == [["unlabelled", "total"]]
    assert write_preview(shards, tmp_path / "p.jpg", 1) == 2


def test_damage_is_found_and_repaired(made):
    data, shards = made
    assert verify_folder(shards, 1) == []
    before = tree(shards)
    for name in ("samples.npy", "train-000000.tar"):
        (shards / name).unlink()
    repair_folder(data, shards)
    assert tree(shards) == before
    csv = (shards / "samples.csv").read_bytes()
    (shards / "samples.csv").write_bytes(csv.replace(b",1\n", b",2\n", 1))  # the last column is a label
    assert any(item.file == "samples.csv" for item in verify_folder(shards, 1))
    repair_folder(data, shards)
    assert tree(shards) == before


def test_a_changed_label_is_noticed_and_packed_again(made, tmp_path, caplog):
    data, shards = made[0], tmp_path / "s"
    run_build(data, shards, manifest=write_manifest(tmp_path / "m.csv"), shard_size=100)
    manifest = write_manifest(tmp_path / "n.csv", species=("9", *SPECIES[1:]))
    run_build(data, shards, manifest=manifest, shard_size=100)
    assert any(line.startswith("changed since the last build: 2 videos") for line in caplog.messages)
    assert (
        run_build(data, shards, manifest=manifest, shard_size=100, changes=Changes(rebuild_changed=True)).new_inputs
        == 2
    )
    index = read_index(shards)
    assert index.heads[1].classes == ["2", "9", "10"] and verify_folder(shards, 1) == []
    assert {record["source"]: record["classes"]["species"] for record in records(shards).values()}[
        video_names(1)[0]
    ] == "9"
    assert index.heads[1].count(index.samples) == {"2": 2, "9": 5, "10": 2, "": 2}


def test_other_labels_than_those_of_the_folder_are_refused(made, tmp_path):
    data, shards = made
    with pytest.raises(UsageError, match="was built with the labels behaviour and species, and they are class now"):
        run_build(data, shards, shard_size=100)
    with pytest.raises(UsageError, match="they are species and behaviour now"):
        run_build(data, shards, shard_size=100, manifest=write_manifest(tmp_path / "m.csv", ("9", "10")))


def test_a_label_needs_two_classes(made, tmp_path):
    with pytest.raises(UsageError, match=r"only one class \(9\) in label.species; name two or more"):
        run_build(made[0], tmp_path / "s", manifest=write_manifest(tmp_path / "m.csv", ("9", "")))


def test_a_label_that_samples_npy_alone_has_is_damage(made, tmp_path):
    shards = made[1]
    samples = np.load(shards / "samples.npy")
    samples["label_species"][0] = -1 if samples["label_species"][0] >= 0 else 0
    shutil.copytree(shards, tmp_path / "s")
    reseal(tmp_path / "s", samples)
    (damage,) = verify_folder(tmp_path / "s", 1)
    assert damage.problem == "json does not agree with samples.csv"


def test_classes_keep_the_spelling_of_the_earlier_build(tmp_path, caplog):
    """Even where most videos have another one by now."""
    data = make_videos(tmp_path / "data", video_names(6))
    rows = ["Fox,sit", "fox,sit", "fox,run", "hare,run", "Fox,Sit", "Fox,Sit"]
    lines = [f"{name},{row}\n" for name, row in zip(video_names(6), rows, strict=True)]
    manifest = tmp_path / "m.csv"
    caplog.set_level("INFO", "shardify")
    for count in (4, 6):
        manifest.write_text("path,class,label.pose\n" + "".join(lines[:count]))
        run_build(data, tmp_path / "s", manifest=manifest, val_fraction=0, test_fraction=0)
    assert [head.classes for head in read_index(tmp_path / "s").heads] == [["fox", "hare"], ["run", "sit"]]
    assert "classes are spelled as in the last build: fox for Fox" in caplog.text
    assert not any(line.startswith("changed since") for line in caplog.messages)
