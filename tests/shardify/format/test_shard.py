import hashlib
import json
import tarfile

import pytest
from builds import make_videos, run_build, tree, video_names

from shardify.format.index import read_index
from shardify.format.members import members_of
from shardify.format.settings import BuildSettings
from shardify.format.shard import Sample, ShardWriter, journal_path, read_journal

KEY = "k" * 80  # the longest that is allowed
MEMBERS = members_of(BuildSettings())


def sample(key: str, payload: bytes = b"jpeg") -> Sample:
    return Sample(key, {"cls": b"0", "jpg": payload, "json": b"{}\n"}, {"key": key, "status": "ok"}, "cpu")


def write(folder, samples, name="train-000000.tar"):
    with ShardWriter(folder, name, MEMBERS) as writer:
        for one in samples:
            writer.add(one)
        return writer.finish("plan", {"av": "1"})


def test_plain_ustar_with_nothing_of_this_machine(tmp_path):
    write(tmp_path, [sample(KEY), sample("b", b"x" * 600)])
    content, at, names = (tmp_path / "train-000000.tar").read_bytes(), 0, []
    while content[at : at + 512].strip(b"\0"):
        head = content[at : at + 512]
        assert head[257:265] == b"ustar\x0000" and head[156:157] == b"0"
        assert int(head[100:107], 8) == 0o644
        assert [int(head[start : start + 7], 8) for start in (108, 116)] == [0, 0]
        assert int(head[136:147], 8) == 0
        assert head[265:329].strip(b"\0") == b"" and head[345:500].strip(b"\0") == b""
        names.append(head[:100].rstrip(b"\0").decode())
        at += 512 + -(-int(head[124:135], 8) // 512) * 512
    assert names == [f"{key}.{extension}" for key in (KEY, "b") for extension in ("cls", "jpg", "json")]


def test_journal_entry_says_where_payloads_lie(tmp_path):
    entry = write(tmp_path, [sample("a"), sample("b", b"payload of b")])
    content = (tmp_path / "train-000000.tar").read_bytes()
    row = entry["rows"][1]
    assert content[row["frames_offset"] : row["frames_offset"] + row["frames_length"]] == b"payload of b"
    assert (entry["bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert read_journal(tmp_path, "train-000000.tar", "plan") == entry


def test_journal_is_trusted_only_with_its_plan_and_hash(tmp_path):
    write(tmp_path, [sample("a")])
    assert read_journal(tmp_path, "train-000000.tar", "another plan") is None
    path = tmp_path / "train-000000.tar"
    content = bytearray(path.read_bytes())
    content[600] ^= 4
    path.write_bytes(content)
    assert read_journal(tmp_path, "train-000000.tar", "plan") is None
    path.unlink()
    assert read_journal(tmp_path, "train-000000.tar", "plan") is None
    for text in ("[1", "[" * 100_000, "[]", "{}"):
        journal_path(tmp_path, "train-000000.tar").write_text(text)
        assert read_journal(tmp_path, "train-000000.tar", "plan") is None


def test_shard_without_clips_leaves_no_tar(tmp_path):
    with ShardWriter(tmp_path, "val-000000.tar", MEMBERS) as writer:
        writer.add_failure({"key": "a", "status": "failed"})
        entry = writer.finish("plan", {})
    assert entry["samples"] == 0
    assert set(tree(tmp_path)) == {".val-000000.tar.json"}
    assert read_journal(tmp_path, "val-000000.tar", "plan")["rows"] == entry["rows"]


def test_a_shard_that_is_not_finished_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path, "train-000000.tar", MEMBERS) as writer:
        writer.add(sample("a"))
        raise KeyboardInterrupt
    assert tree(tmp_path) == {}


def test_two_attempts_at_once_give_one_shard(tmp_path):
    """As on two machines, one of which was taken for dead."""
    with (
        ShardWriter(tmp_path, "train-000000.tar", MEMBERS) as one,
        ShardWriter(tmp_path, "train-000000.tar", MEMBERS) as other,
    ):
        for writer in (one, other):
            writer.add(sample("a"))
        entries = [writer.finish("plan", {}) for writer in (other, one)]
    assert entries[0] == entries[1] == read_journal(tmp_path, "train-000000.tar", "plan")
    assert set(tree(tmp_path)) == {"train-000000.tar", ".train-000000.tar.json"}


@pytest.mark.parametrize("codec", ["jpeg", "raw"])
def test_stock_webdataset_reads_it(tmp_path, codec):
    import webdataset

    data = make_videos(tmp_path / "data", video_names(8))
    run_build(data, tmp_path / "s", codec=codec)
    index, seen = read_index(tmp_path / "s"), []
    for split in index.meta["splits"].values():
        for shard in split["shards"]:
            tar = tmp_path / "s" / shard["name"]
            dataset = webdataset.WebDataset(str(tar), shardshuffle=False, empty_check=False).decode("rgb8")
            for one in dataset:
                record = one["json"]
                assert (record["key"], record["label"]) == (one["__key__"], one["cls"])
                assert one["jpg" if codec == "jpeg" else "npy"].dtype == "uint8"
                seen.append(one["__key__"].encode())
    assert seen == index.samples["key"].tolist()


def test_every_record_has_the_same_fields_and_types(tmp_path):
    data = make_videos(tmp_path / "data", video_names(8))
    run_build(data, tmp_path / "s")
    schemas = set()
    for path in (tmp_path / "s").glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    record = json.loads(tar.extractfile(member).read())
                    schemas.add(tuple((name, type(value).__name__) for name, value in record.items()))
    assert len(schemas) == 1
    assert "NoneType" not in dict(schemas.pop()).values()
