import io
import json
import random
import shutil
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from builds import make_videos, reseal, run_build, unpack, video_names
from click.testing import CliRunner

from shardify.cli.main import main
from shardify.format.index import json_bytes, read_index, read_rows, sha256
from shardify.format.members.frames import Frames
from shardify.tools.verify import verify_folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("data"), video_names(16))


@pytest.fixture(scope="module")
def pristine(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("pristine") / "s"
    run_build(data, out)
    return out


@pytest.fixture
def shards(pristine, tmp_path):
    return Path(shutil.copytree(pristine, tmp_path / "s"))


def found(shards, workers=2):
    return [str(damage) for damage in verify_folder(shards, workers)]


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


@pytest.mark.parametrize("codec", ["jpeg", "raw"])
@pytest.mark.parametrize("unpacked", [False, True])
def test_sound_folders(data, tmp_path, codec, unpacked):
    run_build(data, tmp_path / "s", codec=codec, frames=5, clips=2)
    if unpacked:
        unpack(tmp_path / "s")
    assert found(tmp_path / "s") == []


def test_any_flipped_bit_of_any_file_is_found(shards):
    draw = random.Random(4)
    for path in sorted(shards.iterdir()):
        content = path.read_bytes()
        for _ in range(12):
            flip(path, draw.randrange(8 * len(content)))
            assert found(shards), path.name
            path.write_bytes(content)
    assert found(shards) == []


def test_any_flipped_bit_of_an_unpacked_member_is_found(shards):
    unpack(shards)
    draw = random.Random(5)
    for path in sorted(path for path in shards.rglob("*.*") if path.parent != shards):
        content = path.read_bytes()
        flip(path, draw.randrange(8 * len(content)))
        assert any(path.parent.name in line and path.stem in line for line in found(shards)), path.name
        path.write_bytes(content)
    assert found(shards) == []


def test_damage_is_named(shards):
    record = read_index(shards).samples[2]
    flip(shards / "train-000000.tar", 8 * (int(record["frames_offset"]) + 100))
    assert found(shards) == [f"train-000000.tar: clip {record['key'].decode()}: payload differs"]


@pytest.mark.parametrize("cut", [1, 512, 1024, 5000, 9000])
def test_cut_tail(shards, cut):
    path = shards / "train-000001.tar"
    path.write_bytes(path.read_bytes()[:-cut])
    assert any("train-000001.tar: has" in line for line in found(shards))


def test_missing_extra_doubled_and_renamed_shards(shards):
    shutil.copy(shards / "train-000000.tar", shards / "train-000009.tar")
    (shards / "train-000001.tar").rename(shards / "train-000001 (1).tar")
    a, b = shards / "val-000000.tar", shards / "test-000000.tar"
    content = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(content)
    lines = found(shards)
    assert "train-000001.tar: is missing" in lines
    assert "train-000009.tar: does not belong to this build; index.json does not name it" in lines
    assert "train-000001 (1).tar: does not belong to this build; index.json does not name it" in lines
    assert any(line.startswith("val-000000.tar: clip") for line in lines)
    assert any(line.startswith("test-000000.tar: clip") for line in lines)


def test_a_shard_of_a_build_that_was_interrupted(shards):
    for name in ("train-000009.tar", ".train-000009.tar.json"):
        (shards / name).touch()
    assert found(shards) == ["train-000009.tar: belongs to a build that was interrupted; run it again"]


def test_missing_extra_and_doubled_folders(shards):
    shutil.copytree(shards, shards.parent / "both")
    unpack(shards)
    lost = sorted((shards / "train-000000").glob("*.jpg"))[0]
    lost.unlink()
    (shards / "train-000001" / "more.jpg").touch()
    shutil.copytree(shards / "train-000002", shards / "train-000007")
    shutil.rmtree(shards / "val-000000")
    shutil.copy(shards.parent / "both" / "test-000000.tar", shards)
    lines = found(shards)
    assert f"train-000000: clip {lost.stem}: jpg missing" in lines
    assert "train-000001: clip more: more.jpg does not belong here" in lines
    assert "train-000007: does not belong to this build; index.json does not name it" in lines
    assert "val-000000.tar: is missing" in lines
    assert "test-000000: is there twice, as a tar and unpacked; remove one" in lines
    assert len(lines) == 5


@pytest.mark.parametrize("name", ["index.json", "samples.npy", "samples.csv"])
def test_a_table_of_another_build(data, shards, tmp_path, name):
    run_build(data, tmp_path / "other", quality=50)
    shutil.copy(tmp_path / "other" / name, shards / name)
    assert found(shards)


def test_a_shard_of_another_build(data, shards, tmp_path):
    run_build(data, tmp_path / "other", quality=50)
    shutil.copy(tmp_path / "other" / "train-000000.tar", shards)
    assert any("payload differs" in line for line in found(shards))


def test_tables_that_lie(shards):
    samples = np.array(read_index(shards).samples)
    samples["frames_crc"][1] ^= 1
    samples["label_class"][2] ^= 1
    samples["frames_offset"][3] += 512
    reseal(shards, samples)
    keys = [key.decode() for key in samples["key"]]
    lines = found(shards)
    assert len(lines) == 3
    assert any(f"clip {keys[1]}: frames does not have the CRC" in line for line in lines)
    assert any(f"clip {keys[2]}: cls is not" in line for line in lines)
    assert any(f"clip {keys[3]}: payload does not lie where" in line for line in lines)


@pytest.mark.parametrize("payload", [b"no picture", "small picture"])
def test_payload_that_is_no_contact_sheet(shards, payload):
    if payload == "small picture":
        payload = Frames(codec="jpeg", frames=1, size=8, cell=8).encode(np.zeros((1, 8, 8, 3), np.uint8))
    unpack(shards)
    samples, rows = np.array(read_index(shards).samples), read_rows(shards)
    (shards / rows[0]["shard"][:-4] / f"{rows[0]['key']}.jpg").write_bytes(payload)
    samples["frames_crc"][0], rows[0]["payload_sha256"] = zlib.crc32(payload), sha256(payload)
    record = shards / rows[0]["shard"][:-4] / f"{rows[0]['key']}.json"
    record.write_bytes(json_bytes(json.loads(record.read_bytes()) | {"payload_sha256": sha256(payload)}))
    rows[0]["record_sha256"] = sha256(record.read_bytes())
    reseal(shards, samples, rows)
    (line,) = found(shards)
    assert f"clip {rows[0]['key']}: payload" in line and "decoded" in line


def test_record_of_another_clip(shards):
    unpack(shards)
    rows = read_rows(shards)
    records = [shards / row["shard"][:-4] / f"{row['key']}.json" for row in rows[:2]]
    for content in (records[1].read_bytes(), b"[" * 100_000, b"[]", b"5", b"{}"):
        records[0].write_bytes(content)
        rows[0]["record_sha256"] = sha256(content)
        reseal(shards, rows=rows)
        assert [line.split(": ", 2)[2] for line in found(shards)] == ["json does not agree with samples.csv"]


def test_members_in_another_order(shards):
    path = shards / "train-000000.tar"
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for member, content in [*members[3:6], *members[:3], *members[6:]]:
            tar.addfile(member, io.BytesIO(content))
    samples = np.array(read_index(shards).samples)
    with tarfile.open(path) as tar:
        places = {member.name: member.offset_data for member in tar}
    for record in samples:
        record["frames_offset"] = places.get(record["key"].decode() + ".jpg", record["frames_offset"])
    reseal(shards, samples, tar=path)
    assert len([line for line in found(shards) if line.endswith("is out of order")]) == 6


def test_hostile_tars_are_not_believed(shards):
    path = shards / "train-000000.tar"
    with tarfile.open(path) as tar:
        first = next(iter(tar))
    huge = tarfile.TarInfo(first.name)
    huge.size = 1 << 40
    path.write_bytes(huge.tobuf(tarfile.GNU_FORMAT) + path.read_bytes()[512:])
    assert any("train-000000.tar: clip" in line and "missing" in line for line in found(shards))


def test_unreadable_index(shards):
    (shards / "index.json").write_text("{")
    assert len(found(shards)) == 1
    (shards / "index.json").unlink()
    assert "unfinished" in found(shards)[0]


@pytest.mark.parametrize("name", ["samples.npy", "samples.csv", "README.md"])
def test_a_table_that_is_gone_is_named(shards, name):
    (shards / name).unlink()
    assert [damage.file for damage in verify_folder(shards, 1)] == [name]


def test_exit_codes_and_json(shards):
    result = CliRunner().invoke(main, ["verify", str(shards), "--json"])
    assert (result.exit_code, json.loads(result.output)) == (0, {"ok": True, "damage": []})
    flip(shards / "train-000000.tar", 8 * 600)
    assert CliRunner().invoke(main, ["verify", str(shards)]).exit_code == 1
    result = CliRunner().invoke(main, ["verify", str(shards), "--json"])
    report = json.loads(result.output)
    assert result.exit_code == 1 and not report["ok"]
    assert report["damage"][0]["file"] == "train-000000.tar"


def test_half_read_tar_does_not_stop_the_check(shards):
    (shards / "train-000000.tar").write_bytes(b"\0" * 10240)
    clips = sum(row["shard"] == "train-000000.tar" for row in read_rows(shards))
    assert len([line for line in found(shards) if "cls, jpg, json missing" in line]) == clips > 0
