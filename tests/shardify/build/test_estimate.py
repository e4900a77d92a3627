import math
import os
import tarfile

import pytest
from builds import make_job, make_videos, run_build, tree, video_names
from click.testing import CliRunner

from shardify.build.estimate import draw_evenly, estimate_build
from shardify.build.request import BuildRequest
from shardify.cli.main import main
from shardify.format.index import read_index
from shardify.format.records import Head
from shardify.format.settings import BuildSettings

OPTIONS = ("--frames", "4", "--size", "32", "--shard-size", "6", "--workers", "2")
SETTINGS = BuildSettings(frames=4, size=32, shard_size=6)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("data"), video_names(24))


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def used_bytes(tar):
    """Without the zeros at the end, which fill it up to a multiple of 10 KiB."""
    with tarfile.open(tar) as file:
        return sum(512 + -(-member.size // 512) * 512 for member in file)


def test_the_estimate_is_what_the_build_then_gives(data, tmp_path):
    estimate = estimate_build(BuildRequest(data, None, SETTINGS, workers=2))
    report = run_build(data, tmp_path / "s", shard_size=6)
    assert estimate.counts == report.counts and estimate.heads == [Head("class", ["real", "fake"])]
    assert (estimate.videos, estimate.num_clips, estimate.groups) == (24, 24, 24)
    tars = list((tmp_path / "s").glob("*.tar"))
    shards = len(tars)
    assert estimate.shards == shards
    assert math.isclose(estimate.num_bytes, sum(map(used_bytes, tars)), rel_tol=0.03)
    lines = "\n".join(estimate.lines())
    files = len(read_index(tmp_path / "s").samples) * 3 + 4
    assert f"{shards + 4} files to send, about {files} after unpacking" in lines


def test_the_time_is_that_of_all_videos_shared_by_the_workers(data):
    estimate = estimate_build(BuildRequest(data, None, SETTINGS, workers=2))
    a_video = sum(video.seconds for video in estimate.measured) / 16
    assert math.isclose(estimate.seconds, a_video * 24 / 2) and a_video > 0


@pytest.mark.parametrize("command", ["plan", "build"])
def test_both_commands_write_nothing_and_say_the_same(data, tmp_path, command):
    before = sorted(os.walk(tmp_path))
    more = ("--dry-run",) if command == "build" else ()
    result = call(command, data, tmp_path / "s", *OPTIONS, "--clips", "2", *more)
    assert result.exit_code == 0, result.output
    assert "24 videos of 24 groups → 48 clips of 4 frames, 32 px, jpeg" in result.output
    assert "nothing was written" in result.output
    assert sorted(os.walk(tmp_path)) == before


def test_only_what_is_new_in_a_built_folder_counts(data, tmp_path):
    run_build(data, tmp_path / "s", shard_size=6)
    before = tree(tmp_path / "s")
    done = call("plan", data, tmp_path / "s", *OPTIONS)
    assert done.exit_code == 0 and "nothing new to build: 24 inputs are in the folder already" in done.output
    more = make_videos(tmp_path / "more", video_names(26))
    result = call("build", more, tmp_path / "s", *OPTIONS, "--dry-run")
    assert "2 videos of 2 groups" in result.output and "24 inputs are in the folder already" in result.output
    assert tree(tmp_path / "s") == before
    other = call("plan", data, tmp_path / "s", *OPTIONS, "--frames", "5")
    assert other.exit_code == 2 and "frames 4 → 5" in other.output
    (tmp_path / "s" / ".new-samples.npy").touch()
    cut = call("plan", data, tmp_path / "s", *OPTIONS)
    assert cut.exit_code == 1 and "cut off" in cut.output and (tmp_path / "s" / ".new-samples.npy").exists()


def test_failures_of_the_sample_and_unusable_inputs_are_said(tmp_path):
    data = make_videos(tmp_path / "data", video_names(6))
    for i in range(2):
        (data / "real" / f"broken{i}.mp4").write_bytes(b"no video" * 50)
    (data / "stray.mp4").touch()
    result = call("plan", data, *OPTIONS)
    assert result.exit_code == 0, result.output
    assert "of 8 videos decoded to see, 6 ok, 2 failed" in result.output
    assert "2  not a video" in result.output and "lies in no class folder" in result.output
    estimate = estimate_build(BuildRequest(data, None, SETTINGS, workers=1))
    assert estimate.num_clips * estimate.ok_share == 6
    assert math.isclose(estimate.num_bytes, sum(video.bytes for video in estimate.measured))


def test_where_nothing_can_be_decoded_the_exit_code_is_1(tmp_path):
    for name in ("real", "fake"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "a.mp4").write_bytes(b"")
    result = call("plan", tmp_path / "data", *OPTIONS)
    assert result.exit_code == 1 and "no video of the sample gave a clip" in result.output


def test_a_config_file_counts_for_plans_too(data, tmp_path):
    config = tmp_path / "build.yaml"
    config.write_text("size: 24\nframes: 9\n")
    assert "clips of 9 frames, 24 px" in call("plan", data, "--config", config).output
    config.write_text("dry-run: true\n")
    assert call("build", data, tmp_path / "s", "--config", config).exit_code == 2


def test_the_sample_is_drawn_evenly_by_size(tmp_path):
    for size in range(100):
        (tmp_path / f"{size}.mp4").write_bytes(b"x" * size)
    jobs = [make_job(path) for path in tmp_path.iterdir()]
    drawn = draw_evenly(jobs, 10)
    assert sorted(int(job.path.stem) for job in drawn) == list(range(5, 100, 10))
    assert len(draw_evenly(jobs[:3], 10)) == 3 and draw_evenly([], 10) == []


def test_plans_of_nothing_fail_as_builds_do(tmp_path):
    (tmp_path / "empty").mkdir()
    assert call("plan", tmp_path / "empty").exit_code == 3
    assert call("plan", tmp_path / "missing").exit_code == 2
