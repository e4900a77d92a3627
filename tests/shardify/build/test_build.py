import fcntl
import functools
import os

import pytest
from builds import SMALL, make_videos, run_build, tree, video_names
from poison import make_delayed, make_poisoned

from shardify.build import build as build_module
from shardify.build import build_shard
from shardify.build.encode import pack_videos
from shardify.build.request import Changes
from shardify.errors import BusyError, UsageError
from shardify.executors.local import AHEAD
from shardify.format.index import all_shards, read_index, read_rows
from shardify.format.settings import BuildSettings

TABLES = {"README.md", "index.json", "samples.csv", "samples.npy"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("data"), video_names(24))


@pytest.fixture(scope="module")
def reference(data, tmp_path_factory):
    """A build without any disturbance."""
    out = tmp_path_factory.mktemp("reference") / "shards"
    run_build(data, out, workers=1)
    return tree(out)


def test_only_the_documented_files(reference):
    shards = {name for name in reference if name.endswith(".tar")}
    assert len(shards) >= 6
    assert set(reference) == TABLES | shards


@pytest.mark.parametrize("workers", [1, 8])
def test_one_result_for_any_number_of_workers_and_order_of_completion(data, reference, tmp_path, monkeypatch, workers):
    log = tmp_path / "log"
    make = functools.partial(make_delayed, log=log, salt=workers)
    monkeypatch.setattr(build_module, "pack_videos", functools.partial(pack_videos, pack=make))
    run_build(data, tmp_path / "s", workers=workers)
    assert tree(tmp_path / "s") == reference
    planned, done = [row["source"] for row in read_rows(tmp_path / "s")], log.read_text().split()
    assert sorted(done) == sorted(planned)
    assert (done == planned) == (workers == 1)


def test_complete_build_writes_nothing(data, reference, tmp_path):
    out = tmp_path / "s"
    run_build(data, out)
    before = {path: path.stat().st_mtime_ns for path in [out, *out.iterdir()]}
    report = run_build(data, out)
    assert (report.new_inputs, report.ok_inputs) == (0, 24)
    assert {path: path.stat().st_mtime_ns for path in [out, *out.iterdir()]} == before


@pytest.mark.parametrize("calls", [1, 17, 40])
def test_goes_on_after_a_write_fails(data, reference, tmp_path, monkeypatch, calls):
    """The disk is full at the n-th fsync, once; the next run ends as if nothing had happened."""
    out, left, sync = tmp_path / "s", [calls], os.fsync
    out.mkdir()

    def full_disk(descriptor):
        left[0] -= 1
        if left[0] == 0:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        run_build(data, out)
    assert not (out / "index.json").exists() or tree(out)["index.json"] == reference["index.json"]
    shards = {name: value for name, value in tree(out).items() if name.endswith(".tar")}
    assert shards.items() <= reference.items()
    run_build(data, out)
    assert tree(out) == reference


def test_finished_shards_are_not_built_again(data, reference, tmp_path, monkeypatch):
    out = tmp_path / "s"
    interrupt_after(monkeypatch, 10)
    with pytest.raises(KeyboardInterrupt):
        run_build(data, out)
    finished = {name for name in tree(out) if name.endswith(".tar")}
    assert finished and not any(name.endswith(".tmp") for name in tree(out))
    monkeypatch.undo()
    report = run_build(data, out)
    assert report.resumed_shards == len(finished)
    assert tree(out) == reference


@pytest.mark.parametrize("videos", [2, 45])
def test_at_most_one_shard_and_what_was_in_flight_is_done_again(data, tmp_path, monkeypatch, videos):
    for i in range(70):
        path = tmp_path / "data" / ("real", "fake")[i % 2] / f"w{i}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.hardlink_to(data / "real" / "v01.mp4")
    log = tmp_path / "log"
    make = functools.partial(make_delayed, log=log)
    interrupt_after(monkeypatch, videos, pack=make)
    with pytest.raises(KeyboardInterrupt):
        run_build(tmp_path / "data", tmp_path / "s", workers=1)
    monkeypatch.setattr(build_module, "pack_videos", functools.partial(pack_videos, pack=make))
    run_build(tmp_path / "data", tmp_path / "s", workers=1)
    done = log.read_text().split()
    assert len(set(done)) == 70
    assert len(done) - 70 <= SMALL["shard_size"] + AHEAD


def interrupt_after(monkeypatch, videos, **options):
    def run(*args, **kwargs):
        for number, outcome in enumerate(pack_videos(*args, **kwargs, **options)):
            if number == videos:
                raise KeyboardInterrupt
            yield outcome

    monkeypatch.setattr(build_module, "pack_videos", run)


def test_an_unfinished_shard_that_was_tampered_with_is_built_again(data, reference, tmp_path, monkeypatch):
    out = tmp_path / "s"
    interrupt_after(monkeypatch, 10)
    with pytest.raises(KeyboardInterrupt):
        run_build(data, out)
    monkeypatch.undo()
    shard = out / "train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:-700])
    run_build(data, out)
    assert tree(out) == reference


def test_leftovers_of_a_build_that_died_after_its_commit(data, reference, tmp_path):
    out = tmp_path / "s"
    run_build(data, out)
    (out / ".train-000000.tar.json").write_text("{}")
    (out / ".train-000009.tar.tmp").write_text("half")
    (out / ".build.json").write_text("{}")
    run_build(data, out)
    assert tree(out) == reference


def test_sources_changed_between_two_attempts(tmp_path, monkeypatch):
    data, out = make_videos(tmp_path / "data", video_names(10)), tmp_path / "s"
    interrupt_after(monkeypatch, 6)
    with pytest.raises(KeyboardInterrupt):
        run_build(data, out)
    monkeypatch.undo()
    for path in sorted(data.rglob("*.mp4"))[::2]:
        path.unlink()
    make_videos(data, ["real/new.mp4"])
    run_build(data, out)
    run_build(data, tmp_path / "fresh")
    assert tree(out) == tree(tmp_path / "fresh")


def test_poisoned_videos_change_no_other_byte(data, tmp_path, monkeypatch):
    poisons = [f"{kind}/{name}.mp4" for kind in ("real", "fake") for name in ("segfault", "kill", "alloc")]
    both = make_videos(tmp_path / "data", [*video_names(24), *poisons])
    for name in poisons:
        (both / name).write_bytes(b"no video")
    run_build(both, tmp_path / "refused")
    monkeypatch.setattr(build_module, "pack_videos", lambda *a, **k: pack_videos(*a, pack=make_poisoned, **k))
    report = run_build(both, tmp_path / "crashed")
    assert (report.ok_inputs, report.failed_inputs) == (24, 6)
    assert report.failures["its process crashed (SIGSEGV)"] == 2
    refused, crashed = tree(tmp_path / "refused"), tree(tmp_path / "crashed")
    assert [n for n in crashed if crashed[n] != refused[n]] == ["index.json", "samples.csv"]


def test_failed_inputs_become_rows(tmp_path):
    data = make_videos(tmp_path / "data", video_names(8))
    (data / "real" / "empty.mp4").touch()
    (data / "real" / "text.mp4").write_text("#EXTM3U\nhttp://127.0.0.1:9/a.ts\n")
    (data / "fake" / "dangling.mp4").symlink_to("nowhere")
    (data / "fake" / "loop.mp4").symlink_to("loop.mp4")
    (data / "fake" / "folder.mp4").mkdir()
    (data / "stray.mp4").touch()
    os.mkfifo(data / "fake" / "pipe.mp4")
    report = run_build(data, tmp_path / "s")
    assert (report.inputs, report.ok_inputs, report.failed_inputs) == (15, 8, 7)
    rows = {row["source"]: row for row in read_rows(tmp_path / "s")}
    assert len(rows) == 15
    errors = {source: row["error"] for source, row in rows.items() if row["status"] == "failed"}
    assert all(errors.values()) and len(errors) == 7
    assert not any(str(tmp_path) in error for error in errors.values())


def test_a_file_that_grows_while_it_is_read_is_for_the_next_time(tmp_path, monkeypatch):
    data = make_videos(tmp_path / "data", [*video_names(4), "real/growing.mp4"])
    monkeypatch.setattr(build_module, "pack_videos", functools.partial(pack_videos, pack=make_poisoned))
    report = run_build(data, tmp_path / "s")
    assert dict(report.failures) == {"changed while it was read; build again when it is complete": 1}
    monkeypatch.undo()
    assert run_build(data, tmp_path / "s", changes=Changes(retry_failed=True)).failed_inputs == 0


def test_clips_of_one_video_share_a_shard(data, tmp_path):
    run_build(data, tmp_path / "s", clips=3)
    index = read_index(tmp_path / "s")
    shards = {}
    for record in index.samples:
        shards.setdefault(record["key"].decode()[:-4], set()).add((record["split"], record["shard"]))
    assert len(index.samples) == 72 and len(shards) == 24
    assert all(len(found) == 1 for found in shards.values())


def test_new_videos_become_new_shards(tmp_path):
    data, out = make_videos(tmp_path / "data", video_names(12)), tmp_path / "s"
    run_build(data, out)
    before, splits = tree(out), {row["source"]: row["split"] for row in read_rows(out)}
    make_videos(data, video_names(6, stem="new"))
    report = run_build(data, out)
    after = tree(out)
    assert (report.new_inputs, report.ok_inputs) == (6, 18)
    assert {name: after[name] for name in before if name.endswith(".tar")}.items() <= before.items()
    rows = read_rows(out)
    assert splits.items() <= {row["source"]: row["split"] for row in rows}.items()
    assert read_index(out).samples["key"].tolist() == [row["key"].encode() for row in rows if row["status"] == "ok"]


def test_another_version_of_a_library_is_fine_and_recorded_per_shard(tmp_path, monkeypatch):
    data, out = make_videos(tmp_path / "data", video_names(8)), tmp_path / "s"
    run_build(data, out)
    old = {shard["name"]: shard for shard in all_shards(read_index(out).meta)}
    newer = {**build_shard.library_versions(BuildSettings()), "libavcodec": "99.1.0"}
    monkeypatch.setattr(build_shard, "library_versions", lambda settings: newer)
    make_videos(data, video_names(4, stem="new"))
    run_build(data, out)
    shards = {shard["name"]: shard for shard in all_shards(read_index(out).meta)}
    assert old.items() <= shards.items() and len(shards) > len(old)
    assert all(shards[name]["versions"] == newer for name in shards.keys() - old.keys())
    assert newer not in [shard["versions"] for shard in old.values()]


def test_other_settings_are_refused_by_name(data, tmp_path, monkeypatch):
    interrupt_after(monkeypatch, 6)
    with pytest.raises(KeyboardInterrupt):
        run_build(data, tmp_path / "s")
    monkeypatch.undo()
    for _ in ("unfinished", "finished"):
        with pytest.raises(UsageError, match="quality 95 → 80"):
            run_build(data, tmp_path / "s", quality=80)
        run_build(data, tmp_path / "s")


def test_other_settings_are_fine_while_nothing_is_finished(data, reference, tmp_path, monkeypatch):
    interrupt_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        run_build(data, tmp_path / "s", quality=80)
    monkeypatch.undo()
    run_build(data, tmp_path / "s")
    assert tree(tmp_path / "s") == reference


def test_shards_of_others_are_not_touched(data, tmp_path):
    (tmp_path / "train-000000.tar").write_text("mine")
    with pytest.raises(UsageError, match=r"train-000000\.tar"):
        run_build(data, tmp_path)
    assert tree(tmp_path).keys() == {"train-000000.tar"}


def test_second_builder_is_turned_away(data, tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(BusyError, match="another build is running"):
        run_build(data, tmp_path)
    os.close(descriptor)
    assert run_build(data, tmp_path).ok_inputs == 24
