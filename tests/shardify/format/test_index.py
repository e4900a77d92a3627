import json
import re

import numpy as np
import pytest

from shardify.errors import FormatError
from shardify.format.index import COLUMNS, json_bytes, read_index, read_rows, sha256
from shardify.format.members import members_of
from shardify.format.records import npy_bytes, sample_dtype
from shardify.format.settings import BuildSettings
from shardify.storage.table import table_bytes


def write_folder(folder, samples=3, **changes):
    shard = {"name": "train-000000.tar", "samples": samples, "bytes": 9, "sha256": sha256(b""), "versions": {"av": "1"}}
    empty = {"samples": 0, "failed": 0, "shards": []}
    meta = {
        "format": "shardify",
        "version": 2,
        "settings": {"frames": 16, "size": 64, "codec": "jpeg"},
        "members": {"frames": members_of(BuildSettings(frames=16, size=64))["frames"].to_dict()},
        "heads": [{"name": "class", "classes": ["real", "fake"]}],
        "classes": ["real", "fake"],
        "generated": False,
        "splits": {"train": {**empty, "samples": samples, "shards": [shard]}, "val": empty, "test": empty},
        "failed": 0,
        "sha256": {"samples.npy": sha256(b""), "samples.csv": sha256(b"")},
    }
    records = np.zeros(3, sample_dtype())
    records["key"] = b"a", b"b", b"c"
    (folder / "samples.npy").write_bytes(npy_bytes(records))
    (folder / "index.json").write_bytes(json_bytes(meta | changes))
    return folder


def test_a_good_folder_is_memory_mapped(tmp_path):
    index = read_index(write_folder(tmp_path))
    assert isinstance(index.samples, np.memmap) and len(index.samples) == 3
    assert index.classes == ["real", "fake"] and index.splits() == ["train"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "is not an index of shardify"),
        ({"version": 3}, "has format version 3; this release reads 1 and 2"),
        ({"version": 1}, "not what index.json says"),
        ({"classes": None}, "has no classes"),
        ({"samples": 4}, "holds 3 records, index.json says 4"),
    ],
)
def test_wrong_indexes_are_refused(tmp_path, changes, message):
    with pytest.raises(FormatError, match=message):
        read_index(write_folder(tmp_path, **changes))


def test_unfinished_missing_and_damaged_folders(tmp_path):
    with pytest.raises(FormatError, match="is empty: it is not the folder that you mean, or the build is unfinished"):
        read_index(tmp_path)
    with pytest.raises(FormatError, match="is not a folder"):
        read_index(tmp_path / "missing")
    write_folder(tmp_path)
    (tmp_path / "samples.npy").write_bytes((tmp_path / "samples.npy").read_bytes()[:-1])
    with pytest.raises(FormatError, match=re.escape("samples.npy: cannot be read")):
        read_index(tmp_path)
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(FormatError, match=re.escape("index.json: cannot be read")):
        read_index(tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train-000000.tar"], "the build is unfinished; run it again"),
        ([".val-000001.tar.json"], "the build is unfinished; run it again"),
        ([".test-000001.tar.tmp"], "the build is unfinished; run it again"),
        ([".build.json"], "the build is unfinished; run it again"),
        ([".plan.jsonl"], "the build is unfinished; run it again"),
        ([".new-samples.npy", "README.md"], "the build is unfinished; run it again"),
        (["samples.csv"], "the build is unfinished; run it again"),
        (["train-000000"], "the build is unfinished; run it again"),
        (["config.yaml", "models"], "is the folder of a run, not of shards"),
        (["config.yaml", "checkpoints", "results"], "is the folder of a run, not of shards"),
        (["real", "fake", "README.md"], "is no shards folder; make one with `shardify build FOLDER shards/`"),
        (["train", "val", "metadata.json"], "is no shards folder; make one with `shardify build FOLDER shards/`"),
        (["config.yaml"], "is no shards folder"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, list) else "",
)
def test_what_a_folder_without_an_index_may_be(tmp_path, names, message):
    for name in names:
        (tmp_path / name).mkdir()
    with pytest.raises(FormatError, match=re.escape(f"{tmp_path}: ") + ".*" + message):
        read_index(tmp_path)


def test_an_array_of_objects_is_not_unpickled(tmp_path):
    write_folder(tmp_path)
    np.save(tmp_path / "samples.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(FormatError):
        read_index(tmp_path)


def test_csv_has_all_columns_and_survives_odd_names(tmp_path):
    row = {"key": "a", "source": 'real/new\nline,"quoted".mp4', "status": "ok", "offset": 5, "split": "val"}
    row |= {"shard": "val-000003.tar", "label": 1, "target": 1.0}
    (tmp_path / "samples.csv").write_bytes(table_bytes(COLUMNS, [row]))
    (back,) = read_rows(tmp_path)
    assert tuple(back) == COLUMNS
    assert back["source"] == row["source"] and back["error"] == ""


def test_json_is_stable_and_refuses_nan():
    assert json_bytes({"b": 1, "a": "é"}) == b'{\n "b": 1,\n "a": "\xc3\xa9"\n}\n'
    assert json.loads(json_bytes([0.1])) == [0.1]
    with pytest.raises(ValueError):
        json_bytes(float("nan"))
