"""What is gathered to be sent to Kaggle, and what is refused before anything is."""

import errno
import os
import shutil

import pytest
from builds import make_videos, run_build, video_names
from click.testing import CliRunner
from kaggle_standin import NAMED, call

from shardify.cli.main import main


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "shards"
    run_build(make_videos(tmp_path_factory.mktemp("data"), video_names(16)), out)
    return out


@pytest.fixture
def shards(made, tmp_path):
    return shutil.copytree(made, tmp_path / "shards")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--title", "short", "--title has 5 characters (short); Kaggle takes 6 to 50"),
        ("--title", "x" * 51, "--title has 51 characters"),
        ("--id", "small-shards", "must be owner/slug"),
        ("--id", "me/small_shards", "must be owner/slug"),
        ("--id", "me/small", "the slug of --id has 5 characters"),
        ("--license", "MIT", "'MIT' is not one of"),
        ("--new-version", " ", "--new-version is empty"),
    ],
)
def test_what_kaggle_would_refuse_is_refused_here(shards, option, value, message):
    arguments = dict(zip(NAMED[::2], NAMED[1::2], strict=True)) | {option: value}
    result = call(shards, *[text for pair in arguments.items() for text in pair])
    assert result.exit_code == 2 and message in result.output
    assert not shards.with_name("shards-kaggle").exists()


def test_a_damaged_or_unpacked_folder_is_not_sent(shards):
    tar = next(shards.glob("train-*.tar"))
    whole = tar.read_bytes()
    tar.write_bytes(whole[:-2000] + b"x" + whole[-1999:])
    damaged = call(shards, *NAMED)
    assert damaged.exit_code == 1 and tar.name in damaged.output and "nothing is sent" in damaged.output
    tar.write_bytes(whole)
    shutil.unpack_archive(tar, tar.with_suffix(""))
    tar.unlink()
    unpacked = call(shards, *NAMED)
    assert unpacked.exit_code == 1 and "send the folder that `shardify build` made" in unpacked.output


def test_what_is_no_finished_folder_says_so_itself(shards, tmp_path):
    (shards / "index.json").unlink()
    for folder in (shards, tmp_path / "nowhere"):
        (line,) = call(folder, *NAMED).stderr.splitlines()
        assert line.startswith(f"error: {folder}: ") and line.count(str(folder)) == 1 and "damaged" not in line


def test_a_folder_of_something_else_where_files_are_gathered_is_left_alone(shards):
    staging = shards.with_name("shards-kaggle")
    staging.mkdir()
    (staging / "thesis.tex").write_text("years of work")
    result = call(shards, *NAMED)
    assert result.exit_code == 2 and "is in the way" in result.output
    assert (staging / "thesis.tex").exists()


def test_where_the_disk_has_no_hard_links_copies_keep_the_times(shards, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert call(shards, *NAMED).exit_code == 0
    staging = shards.with_name("shards-kaggle")
    copies = {path.name: path.stat() for path in staging.glob("*.tar")}
    assert len(copies) > 2
    for name, copy in copies.items():
        assert (staging / name).read_bytes() == (shards / name).read_bytes()
        assert copy.st_mtime_ns == (shards / name).stat().st_mtime_ns
    assert call(shards, *NAMED).exit_code == 0
    assert {path.name: path.stat().st_ino for path in staging.glob("*.tar")} == {
        name: copy.st_ino for name, copy in copies.items()
    }


def test_the_gathered_files_follow_the_folder(shards):
    staging = shards.with_name("shards-kaggle")
    assert call(shards, *NAMED).exit_code == 0
    (staging / "test-000009.tar").write_bytes(b"left over from a larger build")
    assert CliRunner().invoke(main, ["card", str(shards)]).exit_code == 0  # a new file of the same name
    assert not (staging / "README.md").samefile(shards / "README.md")
    assert call(shards, *NAMED).exit_code == 0
    assert (staging / "README.md").samefile(shards / "README.md") and not (staging / "test-000009.tar").exists()
