import csv
import json

import numpy as np
import pytest
from builds import make_videos, run_build, tree, video_names

from shardify.build.tables import sample_records
from shardify.format.index import read_index, read_rows, sha256
from shardify.format.records import Head
from shardify.format.words import SPLITS
from shardify.tools.repair import repair_folder
from shardify.tools.verify import verify_folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    data = make_videos(folder / "data", video_names(16))
    (data / "real" / "broken.mp4").write_bytes(b"no")
    run_build(data, folder / "s", clips=2)
    return folder / "s"


def test_counts_add_up(shards):
    meta, rows = read_index(shards).meta, read_rows(shards)
    assert sum(split["samples"] for split in meta["splits"].values()) == 32
    assert sum(split["failed"] for split in meta["splits"].values()) == meta["failed"] == 1
    for split in meta["splits"].values():
        assert split["samples"] == sum(shard["samples"] for shard in split["shards"])
    assert len({row["source"] for row in rows}) == 17


def test_records_point_at_their_payloads(shards):
    index, rows = read_index(shards), [row for row in read_rows(shards) if row["status"] == "ok"]
    for record, row in zip(index.samples, rows, strict=True):
        content = (shards / row["shard"]).read_bytes()
        start = int(record["frames_offset"])
        assert sha256(content[start : start + int(record["frames_length"])]) == row["payload_sha256"]
        assert (record["key"].decode(), SPLITS[record["split"]]) == (row["key"], row["split"])
        assert index.classes[record["label_class"]] == row["class"]


def test_clips_of_one_video_share_a_group(shards):
    groups = {}
    for record in read_index(shards).samples:
        groups.setdefault(record["key"].decode()[:-4], set()).add(int(record["group"]))
    assert all(len(numbers) == 1 for numbers in groups.values())
    assert len(set.union(*groups.values())) == 16


def test_inputs_are_numbered_as_they_come_in_the_table(shards):
    index, rows = read_index(shards), read_rows(shards)
    order = list(dict.fromkeys(row["source"] for row in rows))
    numbers = [order.index(row["source"]) for row in rows if row["status"] == "ok"]
    assert index.samples["source"].tolist() == numbers and set(index.samples["original"]) == {-1}


def test_labels_by_head_and_originals_by_number():
    """An original may have failed, or be unknown; every clip has a label of the primary head alone."""
    common = {"status": "ok", "split": "val", "shard": "val-000003.tar", "group": "g", "target": "1.0"}
    common |= {"class": "fake", "label.class": "1", "frames_offset": 5, "frames_length": 6, "frames_crc": 7}
    rows = [
        {"status": "failed", "source": "real/a.mp4"},
        {**common, "key": "b", "source": "fake/b.mp4", "original": "real/a.mp4", "label.motion": "-1"},
        {**common, "key": "c", "source": "fake/c.mp4", "original": "elsewhere.mp4", "label.motion": "2"},
    ]
    heads = [Head("class", ["real", "fake"]), Head("motion", ["left", "right", "none"])]
    samples = sample_records(rows, {}, ["frames"], heads)
    assert samples["source"].tolist() == [1, 2] and samples["original"].tolist() == [0, -1]
    assert samples["label_class"].tolist() == [1, 1] and samples["label_motion"].tolist() == [-1, 2]
    assert samples[["frames_offset", "frames_length", "frames_crc", "shard"]].tolist() == [(5, 6, 7, 3)] * 2


def test_hashes_are_those_of_the_files(shards):
    meta = json.loads((shards / "index.json").read_text())
    for name, expected in meta["sha256"].items():
        assert sha256((shards / name).read_bytes()) == expected
    for split in meta["splits"].values():
        for shard in split["shards"]:
            content = (shards / shard["name"]).read_bytes()
            assert (shard["bytes"], shard["sha256"]) == (len(content), sha256(content))
            assert {"shardify", "av", "libavcodec"} <= shard["versions"].keys()


def test_samples_open_without_pickle(shards):
    assert len(np.load(shards / "samples.npy", mmap_mode="r", allow_pickle=False)) == 32


@pytest.mark.parametrize(
    "name", ["a\nb", "a\rb", "a\r\nb", 'a"b', "a,b", "-a", "ä ö", "日本", "#", " a", "=1+1", "x" * 251]
)
def test_hostile_names(tmp_path, name):
    """A name that can be written at all comes back from samples.csv as it is; every clip has its own key."""
    data = make_videos(tmp_path / "data", video_names(4))
    names = [f"real/{name}.mp4", f"real/{name.swapcase()}.MP4", f"fake/{name}.mp4"]
    for new in names:
        (data / new).write_bytes((data / "real" / "v01.mp4").read_bytes())
    run_build(data, tmp_path / "s", shard_size=100)
    rows = read_rows(tmp_path / "s")
    assert {row["source"] for row in rows} == {*video_names(4), *names}
    assert {row["status"] for row in rows} == {"ok"}
    keys = [row["key"] for row in rows]
    assert len(set(keys)) == len({key.lower() for key in keys}) == len(rows)
    before = tree(tmp_path / "s")
    assert run_build(data, tmp_path / "s", shard_size=100).new_inputs == 0
    assert tree(tmp_path / "s") == before


def test_names_that_are_not_utf8_fail_by_name(tmp_path):
    data = make_videos(tmp_path / "data", video_names(4))
    content = (data / "real" / "v01.mp4").read_bytes()
    for raw in (b"real/\xff.mp4", b"real/\\xff.mp4"):
        with open(bytes(data) + b"/" + raw, "wb") as file:
            file.write(content)
    run_build(data, tmp_path / "s", shard_size=100)
    with (tmp_path / "s" / "samples.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len({row["source"] for row in rows}) == len(rows) == 6
    assert [row["error"] for row in rows if row["status"] == "failed"] == ["its name is not UTF-8; rename it"]
    assert run_build(data, tmp_path / "s", shard_size=100).new_inputs == 0


PEOPLE = ["real/033.mp4", "fake/033_097.mp4", "real/500.mp4", "fake/500_501.mp4"]  # two groups of FaceForensics++


def test_one_identity_has_one_group_over_all_builds(tmp_path, caplog):
    """A video that came later sorts before the first ones, and one joins two groups that were packed apart."""
    data, out = make_videos(tmp_path / "data", PEOPLE), tmp_path / "s"
    options = {"val_fraction": 0, "test_fraction": 0}
    run_build(data, out, **options)
    make_videos(data, ["fake/001_097.mp4"])
    run_build(data, out, **options)
    first = groups_of(out)
    assert len({first[name] for name in ("real/033", "fake/033_097", "fake/001_097")}) == 1
    assert first["real/500"] == first["fake/500_501"] != first["real/033"]
    make_videos(data, ["fake/500_001.mp4"])
    run_build(data, out, **options)
    assert len(set(groups_of(out).values())) == 1 and len(groups_of(out)) == 6
    assert any(note.startswith("groups of earlier builds that are part of another now: 1") for note in caplog.messages)
    check_repairable(data, out)


def test_a_person_whose_videos_are_gone_keeps_the_group(tmp_path):
    data, out = make_videos(tmp_path / "data", PEOPLE), tmp_path / "s"
    run_build(data, out, test_fraction=0.5)
    (data / "fake/033_097.mp4").unlink()
    (data / "real/033.mp4").unlink()
    make_videos(data, ["real/097.mp4"])
    run_build(data, out, test_fraction=0.5)
    groups, splits = groups_of(out), {row["source"]: row["split"] for row in read_rows(out)}
    assert groups["real/097"] == groups["fake/033_097"]
    assert splits["real/097.mp4"] == splits["fake/033_097.mp4"]


def groups_of(out):
    """Source without ending → (name in samples.csv, number in samples.npy)."""
    rows = [row for row in read_rows(out) if row["status"] == "ok"]
    records = read_index(out).samples
    return {row["source"][:-4]: (row["group"], int(record["group"])) for row, record in zip(rows, records, strict=True)}


def check_repairable(data, out):
    """Records in the earlier shards keep the names that their groups had; the tables follow from them all the same."""
    assert verify_folder(out, 1) == []
    before = tree(out)
    (out / "train-000000.tar").unlink()
    repair_folder(data, out)
    assert tree(out) == before
    (out / "samples.csv").unlink()
    repair_folder(data, out)
    assert tree(out) == before
