"""Builds on a cluster, as far as they need none: what a task does, and what is refused before one is asked."""

import multiprocessing
import os
import signal
import socket
import sys
import time
from threading import Event

import pytest
from builds import SMALL, make_videos, run_build, tree, video_names
from click.testing import CliRunner

from shardify.build import commit
from shardify.build.build_shard import build_shard, library_versions
from shardify.build.parts.build_part import make_plan
from shardify.build.parts.on_cluster import _fenced, build_planned
from shardify.build.parts.planned_shard import from_line, to_line
from shardify.build.request import BuildRequest
from shardify.cli.main import main
from shardify.errors import ShardifyError
from shardify.executors import ray
from shardify.executors.ray import _call
from shardify.format.settings import BuildSettings


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("data"), video_names(8))


@pytest.fixture
def planned(data, tmp_path):
    """A request for a build, and its shards as tasks are given them."""
    request = BuildRequest(data, tmp_path / "s", BuildSettings(**SMALL), workers=1, timeout_seconds=60)
    return request, [to_line(shard, request) for shard in make_plan(request)]


def test_tasks_build_what_one_machine_builds(data, planned, tmp_path):
    request, lines = planned
    with commit.driving(request.out) as token:
        for line in [*reversed(lines), lines[0]]:
            versions = library_versions(request.settings)
            assert build_planned(line, request=request, versions=versions, token=token) == len(line["jobs"])
    assert run_build(data, request.out).resumed_shards == len(lines) > 2
    run_build(data, tmp_path / "reference")
    assert tree(request.out) == tree(tmp_path / "reference")


def test_a_task_on_another_machine_says_what_differs(planned):
    request, (line, *_) = planned
    versions = library_versions(request.settings)
    with commit.driving(request.out) as token:
        other = versions | {"av": "17.0.0"}
        with pytest.raises(ShardifyError, match=r"other libraries, .* \(av \d+\.\d+\.\d+ there, 17\.0\.0 here\)"):
            build_planned(line, request=request, versions=other, token=token)
        line["jobs"][0]["states"] = [[1, 2]]
        with pytest.raises(ShardifyError, match=r"sees other files: \w+/v\d\d\.mp4 \(bytes and .* \[\[1, 2\]\] there"):
            build_planned(line | {"plan": ""}, request=request, versions=versions, token=token)
    assert not list(request.out.glob("*.tar"))


def test_a_build_that_was_replaced_publishes_nothing(planned):
    request, (line, *_) = planned
    versions = library_versions(request.settings)
    said = "another build has taken it over"
    with pytest.raises(ShardifyError, match=said), commit.driving(request.out) as token:
        outcomes = _fenced(iter(["no video"] * len(line["jobs"])), request.out, token)
        with commit.driving(request.out):  # the second build begins as the first one's task is at work
            with pytest.raises(ShardifyError, match=said):
                build_shard(request.out, from_line(line, request.data), line["plan"], request.settings, outcomes)
            with pytest.raises(ShardifyError, match=said):
                build_planned(line, request=request, versions=versions, token=token)
    assert set(tree(request.out)) == {".plan.jsonl"}


def test_a_failure_names_its_machine_and_is_tried_again_only_where_it_may_pass(tmp_path, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # a task has a process of its own
    host = socket.gethostname()
    assert _call(float, "one") == (f"{host}: ValueError: could not convert string to float: 'one'", False)
    assert _call(open, str(tmp_path)) == (f"{host}: [Errno 21] Is a directory: '{tmp_path}'", True)


def test_a_build_whose_head_is_lost_ends_with_one_line(monkeypatch, capfd):
    monkeypatch.setattr(ray, "CHECK_SECONDS", 0.05)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = unused.getsockname()
    build = multiprocessing.get_context("fork").Process(target=ray._end_without_head, args=(address, Event()))
    build.start()
    build.join(60)
    said = f"error: the head of the Ray cluster at 127.0.0.1:{address[1]} is lost ([Errno 111] Connection refused); "
    assert (build.exitcode, capfd.readouterr().err.startswith(said)) == (1, True)


def test_a_head_is_lost_when_it_does_not_answer_several_times_in_a_row(monkeypatch):
    """However long this process was stopped between two looks."""
    outcomes, over = iter("xx-xx-xxx-"), Event()

    def connect(*_):
        if next(outcomes) == "x":
            raise TimeoutError("timed out")
        return socket.socket()

    monkeypatch.setattr(ray, "CHECK_SECONDS", 0)
    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(os, "_exit", lambda code: over.set())
    ray._end_without_head(("127.0.0.1", 1), over)
    assert list(outcomes) == ["-"]


def test_a_build_that_waits_for_the_work_of_others_says_so_now_and_then(monkeypatch, caplog):
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    standstill, said = ray._Standstill(), []
    for now in range(0, 600, 10):
        standstill.note(lambda: 0.0)
        said += [now] * len(caplog.messages)
        caplog.clear()
    assert said == [70, 130, 250, 490]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--on", "ray"),
            "needs Ray (import of ray halted; None in sys.modules); pip install 'shardify[ray]' on every",
        ),
        (("--on", "slurm"), "--on is slurm; write ray, or ray:ADDRESS, for example ray:10.0.0.1:6379"),
        (("--on", "ray", "--decoder", "cuda"), "--on ray decodes with CPUs; leave out --decoder cuda, or pass"),
        (("--on", "ray", "--part", "1/2"), "--dry-run, --plan-only, --part and --on exclude each other"),
    ],
)
def test_what_is_refused(data, tmp_path, monkeypatch, options, said):
    monkeypatch.setitem(sys.modules, "ray", None)
    done = CliRunner().invoke(main, ["build", str(data), str(tmp_path / "s"), *options])
    assert (done.exit_code, done.output.count("\n")) == (2, 1) and said in done.output
    assert not (tmp_path / "s").exists()
