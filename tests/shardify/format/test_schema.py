"""Every value of index.json of every wrong type, and other folders that nobody vouches for: one line, never more."""

import contextlib
import copy
import json
import os
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from builds import SMALL, make_videos, run_build, video_names
from click.testing import CliRunner

from shardify.cli.main import main
from shardify.errors import FormatError
from shardify.format.index import all_shards, json_bytes, read_index, read_meta, read_rows, sha256
from shardify.format.records import npy_bytes
from shardify.format.schema import REQUIRED, check_row
from shardify.format.settings import BuildSettings
from shardify.storage.table import table_bytes
from shardify.tools.verify import verify_folder
from trainer.shards.shard_set import open_shards

ODD = [None, True, -1, 1.5, 10**30, "x", "\x1b[31m", "../../x", [], [1], {}, {"a": 1}]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("odd")
    run_build(make_videos(root / "data", video_names(4)), root / "s", clips=2)
    return root / "data", root / "s"


@pytest.fixture
def shards(folders, tmp_path):
    return Path(shutil.copytree(folders[1], tmp_path / "s"))


def places(value, path=()):
    """The way to every value of a JSON document, containers included."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inside:
        yield from places(one, (*path, name))


def changed(meta, path, odd):
    """The document with one value put in another's place."""
    if not path:
        return odd
    meta = copy.deepcopy(meta)
    holder = meta
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = odd
    return meta


def seal(folder, meta):
    """Write an index that vouches for itself."""
    if isinstance(meta, dict):
        meta.pop("index_sha256", None)
        meta["index_sha256"] = sha256(json_bytes(meta))
    (folder / "index.json").write_bytes(json_bytes(meta))


def test_an_index_with_a_wrong_type_anywhere_is_refused_or_read(shards):
    """What is not refused by `read_meta` is harmless: settings that may have such a value, and names of versions."""
    meta, passed = read_meta(shards), set()
    for path in places(meta):
        if path[-1:] == ("index_sha256",):
            continue
        for odd in ODD:
            seal(shards, changed(meta, path, odd))
            try:
                read_meta(shards)
            except FormatError as error:
                assert "\n" not in str(error) and "\x1b" not in str(error)
            else:
                passed.add((path, repr(odd)))
    assert {path[0] for path, _ in passed} <= {
        "settings",
        "layout",
        "split_list",
        "heads",
        "generated",
        "splits",
        "failed",
        "classes",
        "sha256",
    }
    where = {path for path, _ in passed if path[0] in ("splits", "sha256")}
    assert all("versions" in path or path[-1] in ("samples", "bytes", "failed", "shards") for path in where), where
    check_readers(shards, meta, passed)


def check_readers(shards, meta, passed):
    """Every command ends by itself on what `read_meta` lets through, and says what is wrong in lines."""
    for path, odd in sorted(passed, key=str)[::29]:
        seal(shards, changed(meta, path, eval(odd)))  # of our own list
        for command in ("info", "verify", "preview", "card"):
            options = ["-o", str(shards / "p.jpg")] if command == "preview" else []
            result = CliRunner().invoke(main, [command, str(shards), *options])
            assert result.exception is None or isinstance(result.exception, SystemExit), (command, path, odd)


@pytest.mark.parametrize(
    "content",
    ["[" * 100_000, '{"a":' * 700 + "1" + "}" * 700, "NaN", '"\\ud800"', "1" * 5000, "null", "[]"],
    ids=["deep", "less deep", "nan", "half", "long", "null", "list"],
)
def test_json_that_is_no_index(folders, shards, content):
    (shards / "index.json").write_text(content)
    commands = [["info", shards], ["verify", shards], ["build", folders[0], shards, "--dry-run"], ["card", shards]]
    commands += [["verify", "--repair", folders[0], shards]]
    commands += [["kaggle", shards, "--id", "a/bcdefgh", "--title", "abcdefgh"]]
    for command in commands:
        result = CliRunner().invoke(main, list(map(str, command)))
        assert isinstance(result.exception, SystemExit) and result.exit_code in (1, 2), (command, result.exception)
    with pytest.raises(FormatError):
        open_shards(shards)


@pytest.mark.parametrize("key", [b"../../x", b"a/b", b"", b"a.b", b"a\0b", "é".encode(), b"\x1b[31m"])
def test_keys_that_would_leave_the_folder(shards, key):
    samples = np.array(read_index(shards).samples)
    samples["key"][3] = key
    (shards / "samples.npy").write_bytes(npy_bytes(samples))
    with pytest.raises(FormatError, match=r"samples\.npy: clip 3 has the key b'"):
        read_index(shards)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("key", "../x"), ("shard", "../train-000000.tar"), ("shard", "train-٠٠٠٠٠٠.tar"), ("shard", "val-000000.tar"),
        ("source", "/etc/passwd"), ("source", "a/../../b.mp4"), ("label", "x"), ("target", "nan"), ("split", "all"),
        ("status", "fine"),
    ],
)  # fmt: skip
def test_rows_that_would_leave_the_folder(shards, column, value):
    rows = read_rows(shards)
    rows[0][column] = value
    (shards / "samples.csv").write_bytes(table_bytes(rows[0], rows))
    with pytest.raises(FormatError, match=rf"samples\.csv row 2: {column} is"):
        read_rows(shards)


def test_a_row_with_more_fields_than_columns(shards):
    table = (shards / "samples.csv").read_bytes()
    (shards / "samples.csv").write_bytes(table[:-1] + b",'=more\n")
    with pytest.raises(FormatError, match=r"samples\.csv row \d+: has more or fewer fields"):
        read_rows(shards)


def test_a_repair_writes_no_file_that_a_key_names(folders, shards):
    """Hashes that fit are no proof: who makes the folder makes them."""
    meta, rows = read_meta(shards), read_rows(shards)
    rows[0]["key"] = "../../../evil"
    (shards / "samples.csv").write_bytes(table_bytes(rows[0], rows))
    meta["sha256"]["samples.csv"] = sha256(table_bytes(rows[0], rows))
    seal(shards, meta)
    (shards / all_shards(meta)[0]["name"]).unlink()
    result = CliRunner().invoke(main, ["verify", "--repair", str(folders[0]), str(shards)])
    assert result.exit_code == 1 and "samples.csv row 2: key is '../../../evil'" in result.output


def test_a_setting_of_a_later_release_is_read_but_not_built_with(folders, shards):
    meta = read_meta(shards)
    meta["settings"]["loudness"] = 3
    seal(shards, meta)
    (shards / all_shards(meta)[0]["name"]).unlink()
    assert read_index(shards).settings["loudness"] == 3
    result = CliRunner().invoke(main, ["verify", "--repair", str(folders[0]), str(shards)])
    assert isinstance(result.exception, SystemExit)
    assert "was built by a newer release, which has the setting loudness" in result.output


def test_a_shard_that_is_named_twice(shards):
    meta = read_meta(shards)
    meta["splits"]["train"]["shards"].append(meta["splits"]["train"]["shards"][0])
    seal(shards, meta)
    with pytest.raises(FormatError, match=r"splits\.train\.shards is .* not shards, none of them twice"):
        read_index(shards)


def test_settings_of_a_wrong_type_are_refused():
    for name, value in {**SMALL, "strict": False, "group_by": "x", "val_fraction": 0.1}.items():
        for odd in ("1", True, 1.5, [], {}) if not isinstance(value, (str, bool)) else (1, [], 1.5):
            if not (name == "val_fraction" and odd == 1.5):
                with pytest.raises(Exception, match=rf"--{name.replace('_', '-')} is .* of type"):
                    BuildSettings(**{name: odd})


def test_an_index_that_is_a_pipe_is_not_waited_for(shards):
    (shards / "index.json").unlink()
    os.mkfifo(shards / "index.json")
    writer = threading.Thread(target=(shards / "index.json").write_bytes, args=(b"{}",))  # else a mistake would hang
    writer.start()
    with pytest.raises(FormatError, match="is no regular file"):
        read_meta(shards)
    assert (shards / "index.json").read_bytes() == b"{}", "it is all still there"
    writer.join()


@pytest.mark.parametrize("odd", [True, -1, 1.5, 2**63, "3", None])
def test_a_count_is_a_whole_number_that_a_table_can_hold(shards, odd):
    meta = read_meta(shards)
    shard = ("splits", "train", "shards", 0)
    for path in ("failed",), ("splits", "val", "samples"), ("splits", "test", "failed"), (*shard, "bytes"):
        seal(shards, changed(meta, path, odd))
        with pytest.raises(FormatError, match=rf"{path[-1]} is {odd!r}, not a count"):
            read_meta(shards)


@pytest.mark.parametrize("odd", ["NaN", '"\\ud800"'])
def test_what_json_reads_but_nobody_can_write(shards, odd):
    text = json.dumps(read_meta(shards) | {"more": 0})
    (shards / "index.json").write_text(text.replace('"more": 0', f'"more": {odd}'))
    with pytest.raises(FormatError, match=r"index\.json: cannot be read"):
        read_meta(shards)


def test_an_index_so_deep_that_it_can_just_be_read(shards):
    """It can be parsed, but not written again to see whether it is as it was written."""
    text, depth = json.dumps(read_meta(shards) | {"deep": 0}), sys.getrecursionlimit()

    def is_read(depth):
        (shards / "index.json").write_text(text.replace('"deep": 0', f'"deep": {"[" * depth}{"]" * depth}'))
        with contextlib.suppress(FormatError):
            return bool(read_meta(shards))

    while not is_read(depth):
        depth -= 1
    for less in range(0, 10, 3):
        assert is_read(depth - less)
        assert [damage.file for damage in verify_folder(shards, 1)] == ["index.json"]


@pytest.mark.parametrize("header", ["(", "{'descr'", "1e999", "-" * 500 + "1", "\0", "{'a': 1}"])
def test_a_table_whose_header_is_no_table(shards, header):
    """NumPy raises a dozen types for them."""
    (shards / "samples.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
    with pytest.raises(FormatError, match=r"samples\.npy: cannot be read \(.*\); build the folder again") as caught:
        read_index(shards)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "odd", "message"),
    [
        (("classes",), ["a", "a"], "classes is"),
        (("classes",), ["a", 1], "classes is"),
        (("splits", "more"), {"samples": 0, "failed": 0, "shards": []}, "splits is"),
        (("splits", "train", "shards", 0, "name"), "val-000000.tar", r"splits.train.shards\[0\].name is"),
        (("splits", "train", "shards", 0, "versions"), {"av": 1}, r"splits.train.shards\[0\].versions is"),
        (("joined_groups",), {"a": 1}, "joined_groups is"),
        (("joined_groups",), [], "joined_groups is"),
        (("layout",), 5, "layout is"),
        (("split_list",), {"name": "train.json"}, "split_list is"),
        (("split_list",), {"name": "train.json", "sha256": "0"}, "split_list is"),
        (("settings",), {"frames": 4, "size": 32}, "settings is .* not settings with codec"),
    ],
)
def test_each_wrong_value_is_named(shards, path, odd, message):
    seal(shards, changed(read_meta(shards), path, odd))
    with pytest.raises(FormatError, match=rf"index\.json: is damaged \({message}"):
        read_meta(shards)


@pytest.mark.parametrize("column", ["audio_source_rate", "audio_level_db"])
def test_what_a_row_says_of_its_sound(column):
    row = dict.fromkeys(REQUIRED, "") | {"key": "a", "status": "ok", "split": "train", "shard": "train-000000.tar"}
    row |= {"label": "0", "target": "0.0", "has_audio": "True", "audio_source_rate": "16000", "audio_level_db": "-9.5"}
    check_row(row)
    check_row(row | {"has_audio": "", column: ""})
    for cell in ("x", "", "nan"):
        with pytest.raises(ValueError, match=f"{column} is '{cell}', not a number"):
            check_row(row | {column: cell})
