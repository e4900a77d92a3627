import re

import pytest

from shardify.errors import UsageError
from shardify.sources.boxes import read_boxes


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
