"""Tiny videos laid out as public data sets are, built from end to end."""

import json

import pytest
from builds import SMALL, make_videos
from click.testing import CliRunner

from shardify.build.build import build
from shardify.build.request import BuildRequest
from shardify.cli.main import main
from shardify.format.index import read_index, read_rows
from shardify.format.settings import BuildSettings
from shardify.format.tar import read_shard
from shardify.tools.repair import repair_folder
from shardify.tools.verify import verify_folder

REAL = [f"original_sequences/youtube/c23/videos/{i:03d}.mp4" for i in range(4)]
FAKE = [f"manipulated_sequences/Deepfakes/c23/videos/{pair}.mp4" for pair in ("000_001", "002_003", "003_002")]
MASK = "manipulated_sequences/Deepfakes/masks/videos/000_001.mp4"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("ffpp")
    data = make_videos(root / "data", [*REAL, *FAKE, MASK])
    build(BuildRequest(data, root / "s", BuildSettings(**SMALL), workers=1))
    return data, root / "s"


def test_kind_and_original_in_records_and_tables(built):
    _, out = built
    rows, index = {row["source"]: row for row in read_rows(out)}, read_index(out)
    assert rows.keys() == {*REAL, *FAKE} and index.classes == ["real", "fake"]
    assert [(rows[name]["class"], rows[name]["kind"], rows[name]["original"]) for name in REAL] == [
        ("real", "", "")
    ] * 4
    assert [rows[name]["original"] for name in FAKE] == [REAL[0], REAL[2], REAL[3]]
    records = [
        json.loads(content)
        for path in out.glob("*.tar")
        for name, _, content in read_shard(path)
        if name.endswith(".json")
    ]
    assert {(r["source"], r["kind"], r["original"]) for r in records if r["kind"]} == {
        (name, "Deepfakes", rows[name]["original"]) for name in FAKE
    }
    number = {record["key"].decode(): (record["source"], record["original"]) for record in index.samples}
    for row in rows.values():
        source_of_original = number[rows[row["original"]]["key"]][0] if row["original"] else -1
        assert number[row["key"]][1] == source_of_original


def test_a_repaired_shard_is_the_same(built):
    data, out = built
    name = next(row["shard"] for row in read_rows(out) if row["kind"])
    content = (out / name).read_bytes()
    (out / name).write_bytes(content[:-2000])
    repair_folder(data, out)
    assert (out / name).read_bytes() == content and verify_folder(out, 1) == []


def test_plan_and_build_say_what_they_recognised(built, caplog):
    data, _ = built
    arguments = ["plan", str(data), "--frames", "4", "--size", "16", "--workers", "1", "--layout", "faceforensics"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert caplog.messages[:2] == [
        "FaceForensics++ (c23): 4 real, 3 fake; kinds Deepfakes; split: drawn here, for no official list was found "
        "(--split-file); 1 masks left out",
        "class 0 real, class 1 fake (positive)",
    ]
    result = CliRunner().invoke(main, ["plan", str(data), "--layout", "ucf"])
    assert result.exit_code == 2 and "celebdf" in result.output
