import csv
import io

import pytest
from builds import make_videos, run_build, video_names
from click.testing import CliRunner

from shardify.cli.main import main
from shardify.errors import FormatError
from shardify.format.index import CSV_COLUMNS, csv_bytes, read_rows
from shardify.text import as_cell, from_cell, printable

RED = "\x1b[31mred\x1b[0m"
TEXTS = ["=1+1", "+x", "-x", "@x", "'=1", "''=1", "\t=1", "\r=1", "'", "''", "plain", "a=1", "", "'plain", "-inf"]


def test_what_a_terminal_would_obey_is_shown():
    assert printable(f"a {RED}\n\r\x9b\u202e\u2028\udcff") == r"a \x1b[31mred\x1b[0m\n\r\x9b\u202e\u2028\udcff"
    assert printable("Ää 日本 🙂 \u200c") == "Ää 日本 🙂 \u200c"


def test_no_error_carries_a_control_character():
    assert str(FormatError(f"{RED}\nsecond line")) == r"\x1b[31mred\x1b[0m\nsecond line"


def test_names_of_others_do_not_reach_the_terminal_raw(tmp_path):
    """Classes, and inputs that fail, from a folder's names."""
    data = make_videos(tmp_path / "data", video_names(4))
    (data / "fake").rename(data / RED)
    (data / f"{RED}.mp4").write_bytes(b"")
    shards = tmp_path / "s"
    commands = [["build", data, shards, "--size", "32"], ["info", shards], ["info", shards, "--json"]]
    (data / RED / "last.mp4").write_bytes(b"no")
    for command in [*commands, ["plan", data], ["verify", shards]]:
        result = CliRunner().invoke(main, list(map(str, command)))
        assert "\x1b" not in result.output, command
        assert command[0] == "verify" or "red" in result.output, command


@pytest.mark.parametrize("text", TEXTS)
def test_cells_come_back_as_they_were(text):
    assert from_cell(as_cell(text)) == text
    assert not str(as_cell(text)).startswith(("=", "+", "-x", "@", "\t", "\r"))


def test_no_cell_of_a_table_is_a_formula(tmp_path):
    data = make_videos(tmp_path / "data", video_names(4))
    (data / "fake").rename(data / "=cmd|x")
    (data / "real").rename(data / "-1")
    run_build(data, tmp_path / "s")
    with (tmp_path / "s/samples.csv").open(newline="") as file:
        raw = list(csv.DictReader(file))
    assert {row["class"] for row in raw} == {"'=cmd|x", "-1"}
    assert all(row["source"].startswith(("'=cmd|x/", "'-1/")) for row in raw)
    assert {row["class"] for row in read_rows(tmp_path / "s")} == {"=cmd|x", "-1"}
    assert run_build(data, tmp_path / "s").new_inputs == 0


def test_numbers_stay_numbers():
    row = {"label": -1, "target": -2.5, "class": "-3", "group": "+4e5"}
    (back,) = csv.DictReader(io.StringIO(csv_bytes([row]).decode()))
    assert {name: back[name] for name in row} == {"label": "-1", "target": "-2.5", "class": "-3", "group": "+4e5"}
    assert tuple(back) == CSV_COLUMNS
