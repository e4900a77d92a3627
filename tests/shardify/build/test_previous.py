import os
import subprocess
import sys

import pytest
from builds import make_videos, run_build, tree, video_names

from shardify.build import commit
from shardify.build.previous import load_previous
from shardify.errors import BusyError, FormatError, UsageError
from shardify.format import index
from shardify.format.settings import BuildSettings

HOLD = "import sys; from pathlib import Path; from shardify.build.commit import lock_folder\n"
HOLD += "with lock_folder(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
OLD = {name: f"old {name}".encode() for name in (*index.TABLES, "index.json")}
NEW = {name: f"new {name}".encode() for name in OLD}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


WORK = """
import sys
from pathlib import Path
from builds import make_job
from poison import make_poisoned
from shardify.build.commit import lock_folder
from shardify.format.settings import BuildSettings
from shardify.build.encode import pack_videos
jobs = [make_job(Path("missing.mp4")), make_job(Path("stand.mp4"))]
with lock_folder(Path(sys.argv[1])):
    for _ in pack_videos(jobs, BuildSettings(), workers=2, timeout_seconds=600, pack=make_poisoned):
        print("held", flush=True)
"""


def test_neither_lock_nor_worker_outlives_a_build_that_is_killed(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", WORK, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait()
    with commit.lock_folder(tmp_path):
        assert holder.communicate(timeout=30)[0] == ""  # returns when the last process has closed its end


def test_lock_ends_with_its_process(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(BusyError) as caught, commit.lock_folder(tmp_path):
        pass
    assert caught.value.exit_code == 4
    holder.kill()
    holder.communicate()
    with commit.lock_folder(tmp_path):
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("function", ["replace", "fsync"])
@pytest.mark.parametrize("calls", range(1, 12))
def test_commit_cut_off_anywhere_is_all_old_or_all_new(tmp_path, monkeypatch, function, calls):
    commit.commit(tmp_path, OLD)
    left, original = [calls], getattr(os, function)

    def cut_off(*args):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(5, "Input/output error")
        return original(*args)

    monkeypatch.setattr(os, function, cut_off)
    try:
        commit.commit(tmp_path, NEW)
    except OSError:
        monkeypatch.undo()
        commit.roll_forward(tmp_path)
        commit.remove_leftovers(tmp_path, set())
    assert contents(tmp_path) in (OLD, NEW)


def test_leftovers_never_include_a_shard_of_the_index(tmp_path):
    for name in ("train-000000.tar", "train-000001.tar", "train-000002.tar"):
        (tmp_path / name).touch()
        (tmp_path / f".{name}.json").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".train-000003.tar.tmp").touch()
    commit.remove_leftovers(tmp_path, indexed={"train-000000.tar"}, wanted={"train-000001.tar"})
    assert set(contents(tmp_path)) == {
        "train-000000.tar", "train-000001.tar", ".train-000001.tar.json", "notes.txt",
    }  # fmt: skip


def test_foreign_folders_are_refused(tmp_path):
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(UsageError, match=r"holiday\.jpg"):
        load_previous(tmp_path, BuildSettings())


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("samples.csv", b"real", b"rial"), ("index.json", b'"seed": 0', b'"seed": 1'), ("samples.npy", b"v00", b"v99")],
)
def test_damaged_tables_are_not_built_upon(tmp_path, name, old, new):
    data, out = make_videos(tmp_path / "data", video_names(4)), tmp_path / "s"
    run_build(data, out)
    (out / name).write_bytes((out / name).read_bytes().replace(old, new, 1))
    before = tree(out)
    make_videos(data, ["real/new.mp4"])
    with pytest.raises(FormatError, match=f"{name}: is damaged; run shardify verify --repair"):
        run_build(data, out)
    assert tree(out) == before


def test_numbers_go_on_after_the_last_shard(tmp_path):
    data = make_videos(tmp_path / "data", video_names(12))
    run_build(data, tmp_path / "s")
    previous = load_previous(tmp_path / "s", BuildSettings(frames=4, size=32, shard_size=4))
    tars = [name for name in tree(tmp_path / "s") if name.startswith("train")]
    assert previous.next_number("train") == len(tars)
    assert previous.shard_names == {name for name in tree(tmp_path / "s") if name.endswith(".tar")}


def test_a_folder_with_a_readme_of_its_own_is_left_alone(tmp_path):
    data, out = make_videos(tmp_path / "data", video_names(2)), tmp_path / "project"
    out.mkdir()
    (out / "README.md").write_text("mine")
    with pytest.raises(UsageError, match=r"README\.md and is no shards folder"):
        run_build(data, out)
    assert contents(out) == {"README.md": b"mine"}


def test_a_new_folder_goes_where_a_build_fails_before_it_writes(tmp_path):
    data = make_videos(tmp_path / "data", video_names(2))
    for folder, is_left in ((tmp_path / "new", False), (tmp_path / "there", True)):
        if is_left:
            folder.mkdir()
        with pytest.raises(UsageError, match="--group-by"):
            run_build(data, folder, group_by="(")
        assert folder.exists() == is_left
    with pytest.raises(KeyError), commit.lock_folder(tmp_path / "kept"):
        (tmp_path / "kept" / "a").touch()
        raise KeyError
    assert (tmp_path / "kept" / "a").exists()
