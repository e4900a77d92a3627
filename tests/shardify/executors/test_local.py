import multiprocessing
import os
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from builds import SMALL, make_job, make_videos
from poison import make_poisoned

from shardify.build.encode import pack_videos
from shardify.errors import ShardifyError
from shardify.executors import local
from shardify.executors.base import MEMORY_BYTES, Limits
from shardify.executors.local import AHEAD, DEPTH, LocalExecutor
from shardify.format.settings import BuildSettings

SETTINGS = BuildSettings(**SMALL)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("good"), ["good.mp4"]) / "good.mp4"


def run(folder, good, stems, workers=2, timeout=60, pack=make_poisoned):
    """Outcome by stem of copies of one good video."""
    jobs = [make_job(folder / f"{stem}.mp4") for stem in stems]
    for job in jobs:
        shutil.copy(good, job.path)
    outcomes = list(pack_videos(jobs, SETTINGS, workers=workers, timeout_seconds=timeout, pack=pack))
    assert len(outcomes) == len(stems)
    return dict(zip(stems, outcomes, strict=True))


def payloads(outcomes, stems):
    return [outcomes[stem][0].members["jpg"] for stem in stems]


def test_any_work_on_any_units():
    executor = LocalExecutor(2, Limits(60))
    assert list(executor.map(len, ["", "four", (1, 2)])) == [0, 4, 2]
    assert list(executor.map(float, ["1", "one"])) == [
        1.0, "cannot be packed (ValueError: could not convert string to float: 'one')"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        ("segfault", "its process crashed (SIGSEGV)"),
        ("abort", "its process crashed (SIGABRT)"),
        ("die", "its process crashed (exit code 3)"),
        ("kill", "its process crashed (SIGKILL)"),
        ("alloc", f"needs more than {MEMORY_BYTES >> 30} GiB of memory"),
        ("bug", "cannot be packed (KeyError: 'a mistake of ours')"),
    ],
)
def test_poison_costs_one_video(tmp_path, good, poison, reason):
    stems = ["a", "b", poison, "c", "d", f"{poison}2", "e"]
    outcomes = run(tmp_path, good, stems)
    assert outcomes[poison] == outcomes[f"{poison}2"] == reason
    assert len(set(payloads(outcomes, "abcde"))) == 1


def test_spinning_costs_its_cpu_deadline(tmp_path, good):
    outcomes = run(tmp_path, good, ["a", "spin", "b"], timeout=1)
    assert outcomes["spin"] == "took more than 1 s of CPU time; raise --timeout if the file is sound"
    assert len(set(payloads(outcomes, "ab"))) == 1


def test_standing_still_is_ended(tmp_path, good):
    outcomes = run(tmp_path, good, ["a", "stand", "b"], timeout=0.3)
    assert outcomes["stand"] == "stood still for 3 s; raise --timeout if the file is sound"
    assert len(set(payloads(outcomes, "ab"))) == 1


def test_innocent_victims_are_tried_again(tmp_path, good):
    outcomes = run(tmp_path, good, ["a", "flaky", "b"])
    assert len(set(payloads(outcomes, ["a", "flaky", "b"]))) == 1


def test_many_sudden_deaths(tmp_path, good):
    stems = [f"{'kill' if i % 3 == 1 else 'good'}{i}" for i in range(30)]
    outcomes = run(tmp_path, good, stems)
    assert [isinstance(outcomes[stem], str) for stem in stems] == [stem.startswith("kill") for stem in stems]


def test_too_many_open_files_stop_the_build(tmp_path, good):
    with pytest.raises(OSError, match="Too many open files"):
        run(tmp_path, good, ["a", "files"])


def test_a_broken_installation_stops_the_build(tmp_path, good):
    with pytest.raises(ShardifyError, match=r"cannot import what it needs \(failed to map segment"):
        run(tmp_path, good, ["a", "import"])


def test_what_the_calling_script_has_mapped_is_no_videos_memory(tmp_path, good):
    """torch with its CUDA libraries maps more address space than a video may take."""
    script = tmp_path / "build.py"
    script.write_text(
        "import mmap\nfrom pathlib import Path\nfrom builds import SMALL, make_job\n"
        "from shardify.build.encode import pack_videos\nfrom shardify.executors.base import MEMORY_BYTES\n"
        "from shardify.format.settings import BuildSettings\n"
        "HELD = mmap.mmap(-1, MEMORY_BYTES + 1, prot=mmap.PROT_READ)\n"
        "if __name__ == '__main__':\n"
        f"    jobs = [make_job(Path({str(good)!r}))]\n"
        "    [samples] = pack_videos(jobs, BuildSettings(**SMALL), workers=1, timeout_seconds=60)\n"
        "    assert len(samples[0].members['jpg']) > 0, samples\n"
    )
    path = os.pathsep.join([str(Path(__file__).parents[2] / "helpers"), *sys.path])
    subprocess.run([sys.executable, script], env={**os.environ, "PYTHONPATH": path}, timeout=120, check=True)


def test_a_slow_video_bounds_what_is_done_ahead_of_it(tmp_path, good):
    slow, drawn = shutil.copy(good, tmp_path / "slow.mp4"), []

    def jobs():
        for i in range(400):
            drawn.append(i)
            yield make_job(good if i else slow)

    results = pack_videos(jobs(), SETTINGS, workers=2, timeout_seconds=60, pack=make_poisoned)
    next(results)
    assert 2 * AHEAD - 4 <= len(drawn) <= 2 * AHEAD
    results.close()


def test_what_is_done_ahead_is_bounded_by_bytes(tmp_path, good, monkeypatch):
    """The slow video holds up two workers' outcomes; more are asked for again when it is done, in order."""
    slow, drawn = shutil.copy(good, tmp_path / "slow.mp4"), []
    monkeypatch.setattr(local, "AHEAD_BYTES", 1)

    def jobs():
        for i in range(30):
            drawn.append(i)
            yield make_job(good if i else slow, label=i)

    results = pack_videos(jobs(), SETTINGS, workers=2, timeout_seconds=60, pack=make_poisoned)
    first = next(results)
    assert len(drawn) <= 2 * DEPTH + 1
    assert [outcome[0].row["label"] for outcome in [first, *results]] == list(range(30))


def test_a_worker_ends_with_its_parent(tmp_path, good):
    """Killed, a build leaves no worker behind, were it to stand still for an hour."""
    os.mkfifo(tmp_path / "hold.fifo")
    shutil.copy(good, tmp_path / "hold.mp4")
    script = tmp_path / "build.py"
    script.write_text(
        "from pathlib import Path\nfrom builds import SMALL, make_job\nfrom poison import make_poisoned\n"
        "from shardify.format.settings import BuildSettings\nfrom shardify.build.encode import pack_videos\n"
        "if __name__ == '__main__':\n"
        f"    jobs = [make_job(Path({str(tmp_path / 'hold.mp4')!r}))]\n"
        "    list(pack_videos(jobs, BuildSettings(**SMALL), workers=1, timeout_seconds=600, pack=make_poisoned))\n"
    )
    path = os.pathsep.join([str(Path(__file__).parents[2] / "helpers"), *sys.path])
    parent = subprocess.Popen([sys.executable, script], env={**os.environ, "PYTHONPATH": path})
    held = os.open(tmp_path / "hold.fifo", os.O_RDONLY | os.O_NONBLOCK)
    assert select.select([held], [], [], 120)[0] and os.read(held, 9) == b"here"
    parent.kill()
    parent.wait()
    assert select.select([held], [], [], 60)[0] and os.read(held, 9) == b""  # the worker's end is closed: it is gone
    os.close(held)


def test_no_worker_and_no_file_stays_behind(tmp_path, good):
    before = len(os.listdir("/proc/self/fd"))
    outcomes = run(tmp_path, good, ["a", "kill", "b"])
    assert outcomes["kill"]
    assert len(os.listdir("/proc/self/fd")) <= before + 3  # the fork server's own
    assert multiprocessing.active_children() == []


def test_workers_do_not_run_a_script_again(tmp_path, good):
    """It needs no `if __name__ == "__main__"`."""
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\nfrom shardify.build.build import build\n"
        "from shardify.build.request import BuildRequest\n"
        f"print('once')\nbuild(BuildRequest(Path({str(tmp_path)!r}), Path({str(tmp_path / 's')!r})))\n"
    )
    for name in ("real", "fake"):
        (tmp_path / name).mkdir()
        shutil.copy(good, tmp_path / name / "a.mp4")
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (0, "once\n"), result.stderr
    assert (tmp_path / "s" / "index.json").exists()
