"""A real Ray cluster of two machines: whole builds, what differs there, and what is lost on the way."""

import itertools
import os
import shutil
import signal
import socket
import threading

import pytest
from builds import SMALL, make_data, make_videos, tree, tree_of_build
from ray_machines import begin_and_wait, differ, pack_poisoned, task_processes, two_machines

from shardify.build.build import build
from shardify.build.request import BuildRequest
from shardify.errors import ShardifyError
from shardify.executors import ray as ray_module
from shardify.executors.ray import RayCluster
from shardify.format.settings import BuildSettings
from shardify.progress import Progress

pytestmark = pytest.mark.slow
pytest.importorskip("ray")


@pytest.fixture(scope="module")
def machines():
    with two_machines() as machines:
        yield machines


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"), 24)


@pytest.fixture(scope="module")
def reference(data, tmp_path_factory):
    return tree_of_build(data, tmp_path_factory.mktemp("reference") / "shards")


def request_on(machines, data, out, **options):
    on = f"ray:{machines.address}"
    return BuildRequest(data, out, BuildSettings(**SMALL, **options), workers=1, timeout_seconds=60, on=on)


def test_the_same_folder_as_on_one_machine(machines, data, reference, tmp_path, monkeypatch):
    monkeypatch.chdir(data.parent)
    report = build(request_on(machines, data.relative_to(data.parent), tmp_path / "s"))
    assert (report.ok_inputs, report.failed_inputs) == (24, 1)
    assert tree(tmp_path / "s") == reference
    make_videos(data, ["real/later.mp4"])
    assert build(request_on(machines, data, tmp_path / "s")).new_inputs == 1
    assert (tmp_path / "s" / "train-000000.tar").exists() and not list((tmp_path / "s").glob(".*"))
    (data / "real" / "later.mp4").unlink()


def test_a_lost_process_and_a_lost_machine_cost_nothing(machines, data, reference, tmp_path):
    lost = []

    def lose(*_):
        if not lost:
            lost.append(task_processes()[0])
            os.kill(lost[0], signal.SIGKILL)
            machines.lose()

    finished = threading.Thread(target=build, args=(request_on(machines, data, tmp_path / "s"),))
    finished.start()
    while finished.is_alive() and not task_processes():
        finished.join(0.1)
    lose()
    finished.join()
    machines.join()
    assert lost and tree(tmp_path / "s") == reference


def test_what_work_raises(machines, tmp_path):
    cluster = RayCluster(machines.address, 1)
    assert sorted(cluster.as_completed(len, ["", "four"])) == [("", 0), ("four", 4)]
    assert dict(cluster.as_completed(float, ["1", "one"])) == {
        "1": 1.0,
        "one": f"{socket.gethostname()}: ValueError: could not convert string to float: 'one'",
    }
    ((_, said),) = cluster.as_completed(open, [str(tmp_path)])
    assert "[Errno 21] Is a directory" in said
    with pytest.raises(ShardifyError, match=r"other libraries, .* \(av 0 there"):
        list(cluster.as_completed(differ, [1, 2]))
    assert list(cluster.as_completed(os._exit, [1])) == [(1, "The worker died unexpectedly while executing this task")]


def test_poison_costs_one_video(machines, data, tmp_path):
    paths = [tmp_path / f"{stem}.mp4" for stem in ("a", "segfault", "b", "abort", "c")]
    for path in paths:
        shutil.copy(data / "real" / "v01.mp4", path)
    ((_, outcomes),) = RayCluster(machines.address, 1).as_completed(pack_poisoned, [paths])
    assert outcomes == [1, "its process crashed (SIGSEGV)", 1, "its process crashed (SIGABRT)", 1]


def test_what_has_begun_goes_on_and_what_waits_is_left_out(machines, tmp_path):
    taken, stopped = itertools.count(), itertools.count(1)
    units = (tmp_path for _ in itertools.takewhile(lambda number: number < 9, taken))

    def have_begun():
        if len(list(tmp_path.glob("begun-*"))) < 2:
            return False
        if next(stopped) > 2:  # those that wait are done with, one by one
            (tmp_path / "go").touch()
        return True

    done = RayCluster(machines.address, 1).as_completed(begin_and_wait, units, have_begun)
    assert [result for _, result in done] == [1, 1]
    assert len(list(tmp_path.glob("begun-*"))) == 2 and next(taken) == 5, "twice the room, and one more"


def test_ctrl_c_names_the_shards_that_have_failed(machines, data, tmp_path, monkeypatch, caplog):
    out = tmp_path / "s"
    (out / ".train-000000.tar.json").mkdir(parents=True)  # where its entry is to be written
    request, advance = request_on(machines, data, out), Progress.advance

    def press_after_a_failure(self, clips, failed, remark):
        advance(self, clips, failed, remark)
        if failed:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Progress, "advance", press_after_a_failure)
    with pytest.raises(KeyboardInterrupt):
        build(request)
    assert "train-000000.tar failed (" in caplog.text and "; 1 of " in caplog.text


def test_no_cluster_and_no_room(machines, monkeypatch):
    monkeypatch.setattr(ray_module, "PATIENCE_SECONDS", 1.0)
    with pytest.raises(ShardifyError, match="no machine with 4 free CPUs for 1 s; see `ray status`, or pass fewer"):
        list(RayCluster(machines.address, 4).as_completed(len, [""]))
    with pytest.raises(ShardifyError, match=r"no Ray cluster answers at 127\.0\.0\.2:1 "):
        list(RayCluster("127.0.0.2:1", 1).as_completed(len, [""]))
