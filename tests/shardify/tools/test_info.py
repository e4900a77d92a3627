"""What is said of a folder's clips, after a build and by `info`."""

import json

import pytest
from builds import make_videos, run_build, tree, video_names
from click.testing import CliRunner
from media import noisy_picture, numbered_video
from version_1 import as_version_1

from shardify.cli.main import main
from shardify.errors import UsageError
from shardify.format.index import ADDED_COLUMNS, read_rows
from shardify.text import count_remarks, remark_lines
from shardify.tools.info import describe
from shardify.tools.verify import verify_folder

OPTIONS = ("--frames", "4", "--size", "32", "--workers", "1")
LINES = [
    "clips with decode errors: 1 (column decode_errors of samples.csv; --strict refuses such videos)",
    "clips with repeated pictures: 1 (column repeated_frames of samples.csv; "
    "the videos are short, or their times have gaps)",
    "clips with HDR: 1 (column hdr of samples.csv; decoded without tone mapping)",
]


def call(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)]).output


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("data"), video_names(4))


def test_what_is_odd_about_clips_is_said(data, tmp_path):
    out = call("build", data, tmp_path / "sound", *OPTIONS) + call("info", tmp_path / "sound")
    assert "clips with" not in out and "\n\n" not in out
    odd = make_videos(tmp_path / "odd", video_names(4))
    numbered_video(odd / "real/hdr.mp4", 4, codec="libx265", context={"color_trc": 18})
    numbered_video(odd / "real/gap.mp4", 8, times=[0, 1, 2, 3, 4, 5, 6, 900], options={"bf": "0"})
    broken = numbered_video(odd / "real/broken.mkv", 40, picture=noisy_picture)
    broken.write_bytes(broken.read_bytes()[:-2000])
    for printed in (call("build", odd, tmp_path / "s", *OPTIONS), call("info", tmp_path / "s")):
        assert [line for line in printed.splitlines() if line.startswith("clips with")] == LINES
    remarks = json.loads(call("info", tmp_path / "s", "--json"))["remarks"]
    assert remarks == {"decode_errors": 1, "repeated_frames": 1, "hdr": 1}
    rows = {row["source"]: row for row in read_rows(tmp_path / "s")}
    assert rows["real/gap.mp4"]["repeated_frames"] == "3"


def test_tables_of_older_builds_have_nothing_to_say():
    assert not count_remarks([{"key": "a"}, dict.fromkeys(ADDED_COLUMNS, "")])
    assert count_remarks([{"decode_errors": 3, "repeated_frames": 0, "hdr": "none"}]) == {"decode_errors": 1}
    assert remark_lines({}) == []


def test_names_in_tables_of_0_1_0_are_read_as_they_stand(tmp_path):
    videos = make_videos(tmp_path / "data", [*video_names(4), "'=cmd/a.mp4"])
    run_build(videos, tmp_path / "s")
    as_version_1(tmp_path / "s", is_0_1_0=True)
    assert "'=cmd/a.mp4" in {row["source"] for row in read_rows(tmp_path / "s")}


@pytest.mark.parametrize("is_0_1_0", [False, True])
def test_folders_of_version_1_are_described_and_sound_but_not_continued(tmp_path, is_0_1_0):
    videos = make_videos(tmp_path / "data", video_names(4))
    run_build(videos, tmp_path / "s")
    today = describe(tmp_path / "s")
    before = tree(as_version_1(tmp_path / "s", is_0_1_0))
    found = describe(tmp_path / "s")
    differing = {name for name, value in found.items() if value != today[name]}
    assert differing <= {"version", "bytes", "splits"} and found["version"] == 1
    assert verify_folder(tmp_path / "s", 1) == []
    make_videos(videos, ["real/new.mp4"])
    with pytest.raises(UsageError, match="is of format version 1"):
        run_build(videos, tmp_path / "s")
    assert tree(tmp_path / "s") == before
