"""--faces-model, with a stand-in for OpenCV: YuNet's own file is not part of the project."""

import json
import sys

import numpy as np
import pytest
from builds import tree
from click.testing import CliRunner
from faces import make_squares, use_opencv_standin

from shardify.cli.main import main
from shardify.errors import UsageError
from shardify.faces.detector import detector_version, open_detector
from shardify.faces.track import Face
from shardify.format.index import read_rows

SMALL = ("--frames", 4, "--size", 32, "--workers", 1)


@pytest.fixture
def model(monkeypatch, tmp_path):
    return use_opencv_standin(monkeypatch, tmp_path / "opencv")


def call(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_it_is_shown_the_picture_in_opencvs_order_of_colours_and_at_its_own_size(model):
    detect = open_detector(model)
    for shape in ((90, 160), (160, 90)):
        picture = np.zeros((*shape, 3), np.uint8)
        picture[10:30, 40:70, 2] = 200
        assert detect([picture, picture[..., ::-1]]) == [[Face((40.0, 10.0, 30.0, 20.0), pytest.approx(0.9))], []]
    assert detector_version("0" * 64) == "YuNet 0000000000000000 in OpenCV 0.0.0 above 0.6"


def test_another_file_or_no_opencv_is_one_line(model, monkeypatch, tmp_path):
    (tmp_path / "other.onnx").write_bytes(b"no yunet")
    with pytest.raises(
        UsageError, match=r"other\.onnx: is no YuNet model .* take face_detection_yunet_2023mar\.onnx of"
    ):
        open_detector(tmp_path / "other.onnx")
    monkeypatch.setitem(sys.modules, "cv2", None)
    (tmp_path / "new.onnx").write_bytes(b"yunet")
    with pytest.raises(UsageError, match=r"pip install opencv-python-headless\. The file itself comes from"):
        open_detector(tmp_path / "new.onnx")


def test_a_build_with_it_is_that_of_its_table_and_goes_on_with_it_alone(model, tmp_path):
    data, out = make_squares(tmp_path / "data"), tmp_path / "s"
    built = call("build", data, out, "--faces", "--faces-model", model, *SMALL)
    assert built.exit_code == 0 and "4 inputs = 4 ok + 0 failed" in built.stdout, built.output
    meta = json.loads((out / "index.json").read_bytes())
    assert len(meta["settings"]["faces_model"]) == 64
    assert meta["splits"]["train"]["shards"][0]["versions"]["faces"].startswith("YuNet ")
    assert call("faces", data, tmp_path / "b.csv", "--frames", 4, "--faces-model", model).exit_code == 0
    assert call("build", data, tmp_path / "t", "--boxes", tmp_path / "b.csv", *SMALL).exit_code == 0
    payloads = [{row["source"]: row["payload_sha256"] for row in read_rows(tmp_path / name)} for name in "st"]
    assert payloads[0] == payloads[1] and len(payloads[0]) == 4
    refused = call("build", data, out, "--faces", *SMALL)
    assert refused.exit_code == 2 and "was built with other settings (faces_model " in refused.stderr


def test_a_shard_is_repaired_with_the_same_file(model, tmp_path):
    data, out = make_squares(tmp_path / "data", 1), tmp_path / "s"
    assert call("build", data, out, "--faces", "--faces-model", model, *SMALL).exit_code == 0
    before = tree(out)
    next(out.glob("*.tar")).unlink()
    refused = call("verify", out, "--repair", data)
    assert refused.exit_code == 2 and "was built with --faces-model; pass the same" in refused.stderr
    assert call("verify", out, "--repair", data, "--faces-model", model).exit_code == 0
    assert tree(out) == before


def test_it_is_no_option_without_faces(model, tmp_path):
    refused = call("build", make_squares(tmp_path / "data", 1), tmp_path / "s", "--faces-model", model)
    assert refused.exit_code == 2 and "pass --faces as well" in refused.stderr
