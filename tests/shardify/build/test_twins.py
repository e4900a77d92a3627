import shutil

import pytest
from builds import make_videos, run_build

from shardify.errors import UsageError
from shardify.format.index import read_rows


@pytest.fixture
def data(tmp_path):
    """Four videos of their own, each in one class and split."""
    return make_videos(tmp_path / "data", [f"{s}/{c}/{s}{c}.mp4" for s in ("train", "test") for c in ("real", "fake")])


def twins_in(messages):
    return [line for line in messages if "the same bytes" in line]


def test_files_of_their_own_are_no_twins(data, tmp_path, caplog):
    (data / "train/real/empty1.mp4").touch()
    (data / "train/fake/empty2.mp4").touch()
    shutil.copy(data / "train/real/trainreal.mp4", data / "train/real/again.mp4")  # in the same class and split
    content = bytearray((data / "train/real/trainreal.mp4").read_bytes().ljust(20_000, b"\0"))
    (data / "train/real/long.mp4").write_bytes(content)
    content[-1] ^= 1
    (data / "train/fake/other_end.mp4").write_bytes(content)
    run_build(data, tmp_path / "s")
    assert twins_in(caplog.messages) == []


@pytest.mark.parametrize(
    ("copy", "line"),
    [
        ("train/fake/copy.mp4", "two classes, 1 times; the first: train/fake/copy.mp4 (fake, train) = "),
        ("test/real/copy.mp4", "two splits, 1 times; the first: test/real/copy.mp4 (real, test) = "),
    ],
)
def test_twins_are_named_before_anything_is_decoded(data, tmp_path, caplog, copy, line):
    shutil.copy(data / "train/real/trainreal.mp4", data / copy)
    with pytest.raises(UsageError, match=r"the same bytes in two .*refused by --strict"):
        run_build(data, tmp_path / "strict", strict=True)
    assert not list((tmp_path / "strict").glob("*.tar"))
    caplog.clear()
    run_build(data, tmp_path / "s")
    (found,) = twins_in(caplog.messages)
    assert found == f"warning: the same bytes in {line}train/real/trainreal.mp4 (real, train)"


def test_a_new_file_is_compared_with_those_that_are_packed(data, tmp_path, caplog):
    run_build(data, tmp_path / "s")
    shutil.copy(data / "train/real/trainreal.mp4", data / "test/fake/late.mp4")
    run_build(data, tmp_path / "s")
    assert len(twins_in(caplog.messages)) == 2
    caplog.clear()
    run_build(data, tmp_path / "s")
    assert twins_in(caplog.messages) == [] and len(read_rows(tmp_path / "s")) == 5  # both are packed, and were named
