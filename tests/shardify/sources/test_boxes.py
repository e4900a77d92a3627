import re

import pytest
from builds import make_videos, run_build

from shardify.errors import UsageError
from shardify.sources.boxes import match_boxes, read_boxes
from trainer.tools.raw_clips import find_inputs


def test_boxes_with_and_without_margin(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text("path,x,y,width,height,margin\nreal/a.mp4,10,20,40,60,0.25\n./b.mp4,1,2,3,4,\n")
    assert read_boxes(path) == {"real/a.mp4": (0, 5, 60, 90), "b.mp4": (1, 2, 3, 4)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,x,y,width\na,1,2,3\n", "no column height"),
        ("path,x,y,width,height\na,1,2,3,b\n", "row 2: x, y, width, height and margin must be numbers"),
        ("path,x,y,width,height\na,1,2,0,3\n", "row 2: width and height must be above 0"),
        ("path,x,y,width,height\na,1,2,nan,3\n", "row 2: width and height must be above 0"),
        ("path,x,y,width,height\na,1,2,3,4\na,1,2,3,4\n", "row 3: a has a second box"),
    ],
)
def test_errors_name_the_row(tmp_path, text, message):
    path = tmp_path / "boxes.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=re.escape(message)):
        read_boxes(path)


def test_names_in_another_unicode_form(tmp_path):
    composed, apart = "\u00e9t\u00e9.mp4", "e\u0301te\u0301.mp4"
    (tmp_path / apart).touch()
    box = (1, 2, 3, 4)
    found, (line,) = match_boxes({composed: box, "b.mp4": box}, tmp_path)
    assert found == {apart: box, "b.mp4": box} and "1 names that the boxes file spells" in line
    with pytest.raises(UsageError, match="has two boxes"):
        match_boxes({composed: box, apart: box}, tmp_path)
    (tmp_path / composed).touch()
    assert match_boxes({composed: box, apart: box}, tmp_path) == ({composed: box, apart: box}, [])


def test_a_build_and_predict_find_boxes_in_another_unicode_form(tmp_path, caplog):
    data, boxes = tmp_path / "data", tmp_path / "b.csv"
    make_videos(data, ["real/e\u0301.mp4", "fake/a.mp4"])
    boxes.write_text("path,x,y,width,height\nreal/\u00e9.mp4,8,8,16,16\nfake/a.mp4,8,8,16,16\n", encoding="utf-8")
    assert run_build(data, tmp_path / "s", boxes=boxes).ok_inputs == 2
    assert any("boxes file spells" in note for note in caplog.messages)
    caplog.clear()
    found = find_inputs([data], boxes)
    assert [(task.box, reason) for task, reason in found] == [((8, 8, 16, 16), None)] * 2
    assert "boxes file spells" in caplog.text
