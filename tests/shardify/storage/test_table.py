import csv
import io

import pytest
from builds import make_videos, run_build, video_names

from shardify.format.index import COLUMNS, read_rows
from shardify.storage.table import as_cell, from_cell, read_csv, table_bytes

TEXTS = ["=1+1", "+x", "-x", "@x", "'=1", "''=1", "\t=1", "\r=1", "'", "''", "plain", "a=1", "", "'plain", "-inf"]


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
    (back,) = csv.DictReader(io.StringIO(table_bytes(COLUMNS, [row]).decode()))
    assert {name: back[name] for name in row} == {"label": "-1", "target": "-2.5", "class": "-3", "group": "+4e5"}
    assert tuple(back) == COLUMNS


def test_lines_end_in_line_feeds_and_what_stands_in_cells_comes_back():
    rows = [{"a": "x\r", "b": "y\r\nz", "c": "not a column"}, {"a": 'q"u,o'}]
    table = table_bytes(["a", "b"], rows)
    assert table == b'a,b\n"x\r","y\r\nz"\n"q""u,o",\n'
    found = [{"a": "x\r", "b": "y\r\nz"}, {"a": 'q"u,o', "b": ""}]
    assert read_csv(io.StringIO(table.decode(), newline="")) == (found, ("a", "b"))
