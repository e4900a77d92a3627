"""Builds in parts: in any order, twice at once, cut off, on machines that differ; always one and the same folder."""

import hashlib
import json
import random
import shutil
import threading

import pytest
from builds import SMALL, make_data, make_videos, run_build, tree, tree_of_build, video_names

from shardify.build import build as build_module
from shardify.build.commit import lock_folder
from shardify.build.encode import pack_videos
from shardify.build.job import Job
from shardify.build.parts.build_part import build_part, make_plan
from shardify.build.parts.plan_file import Part, read_plan, write_plan
from shardify.build.plan import ShardPlan
from shardify.build.previous import PLAN
from shardify.build.request import BuildRequest, Changes
from shardify.errors import BusyError, FormatError, ShardifyError, UsageError
from shardify.format.settings import BuildSettings
from shardify.sources.source import SoundFile
from shardify.video.piece import Piece


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"), 16)


@pytest.fixture(scope="module")
def reference(data, tmp_path_factory):
    return tree_of_build(data, tmp_path_factory.mktemp("reference") / "shards")


def request_of(data, out, **options):
    beside = {name: options.pop(name) for name in ("changes", "layout", "manifest") if name in options}
    return BuildRequest(data, out, BuildSettings(**SMALL | options), workers=1, timeout_seconds=60, **beside)


def test_parts_in_any_order_and_twice_at_once(data, reference, tmp_path):
    out = tmp_path / "s"
    request, reports = request_of(data, out), []
    numbers = random.Random(0).sample(range(1, 4), 3)
    for number in numbers[:2]:
        reports.append(build_part(request, Part(number, 3)))
    assert not {"index.json", "samples.npy", "samples.csv", "README.md"}.intersection(tree(out))
    shards = {name for name in reference if name.endswith(".tar")}
    tars = [name for name in tree(out) if name.endswith(".tar")]
    assert reports[-1].finished == len(tars) < reports[-1].planned == len(shards)
    twice = [threading.Thread(target=build_part, args=(request, Part(numbers[2], 3))) for _ in range(2)]
    for thread in twice:
        thread.start()
    for thread in twice:
        thread.join()
    again = build_part(request, Part(0, 3))
    assert (again.shards, again.finished) == (again.resumed_shards, len(shards)), "3/3 is 0/3"
    assert sum(report.failed_inputs for report in [*reports, build_part(request, Part(numbers[2], 3))]) == 1
    assert run_build(data, out).resumed_shards == len(shards)
    assert tree(out) == reference


def test_a_part_that_is_cut_off_and_a_tar_that_is_damaged_are_made_good(data, reference, tmp_path, monkeypatch, caplog):
    out, request = tmp_path / "s", request_of(data, tmp_path / "s")

    def interrupted(*arguments, **options):
        for number, outcome in enumerate(pack_videos(*arguments, **options)):
            if number == 6:
                raise KeyboardInterrupt
            yield outcome

    with monkeypatch.context() as patch:
        patch.setattr(build_module, "pack_videos", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build_part(request, Part(1, 1))
    first, *_ = tars = sorted(out.glob("*.tar"))
    assert len(tars) == 1
    first.write_bytes(first.read_bytes()[:-1])
    (out / ".train-000001.tar.0123abcd.tmp").touch()  # of a part that was killed
    caplog.set_level("INFO", "shardify")
    build_part(request, Part(2, 2))
    assert "built again: 1 shards, since other videos or libraries were there, or their tar is damaged" in caplog.text
    assert run_build(data, out).resumed_shards < len(list(out.glob("*.tar")))
    assert tree(out) == reference


def test_videos_that_come_later(data, reference, tmp_path):
    """Those after the plan are packed by the last build, and the next plan continues after it."""
    here, out = shutil.copytree(data, tmp_path / "data"), tmp_path / "s"
    run_build(here, out)
    make_videos(here, video_names(6, "w"))
    planned = make_plan(request_of(here, out))
    assert sum(len(shard.jobs) for shard in planned) == 6
    assert tree(out).items() > reference.items()
    shutil.copytree(out, tmp_path / "plain")
    for number in range(2):
        build_part(request_of(here, out), Part(number, 2))
    for folder in (out, tmp_path / "plain"):
        run_build(here, folder)
    assert tree(out) == tree(tmp_path / "plain") and PLAN not in tree(out)


def test_a_part_that_runs_after_the_last_build_and_one_that_follows_a_plan_of_before_it(data, tmp_path, caplog):
    here, out = shutil.copytree(data, tmp_path / "data"), tmp_path / "s"
    request = request_of(here, out)
    make_plan(request)
    before = (out / PLAN).read_bytes()
    run_build(here, out)
    assert build_part(request, Part(1, 2)).planned == 0 and not (out / PLAN).exists()
    make_videos(here, video_names(6, "w"))
    (out / PLAN).write_bytes(before)
    caplog.set_level("INFO", "shardify")
    report = build_part(request, Part(1, 1))
    assert report.finished == report.planned == report.shards > 0
    assert "the plan is of before the last build: it is made anew" in caplog.text
    caplog.clear()
    assert build_part(request, Part(1, 1)).resumed_shards == report.shards and "made anew" not in caplog.text
    assert run_build(here, out).resumed_shards == report.shards


def test_a_folder_of_tables_in_parts(data, tmp_path):
    tables = tmp_path / "tables"
    tables.mkdir()
    for split, numbers in (("train", range(8)), ("val", range(8, 12))):
        rows = [f"{name},{name.split('/')[0]}\n" for name in (video_names(16)[number] for number in numbers)]
        (tables / f"{split}.csv").write_text("path,class\n" + "".join(rows))
    request = request_of(data, tmp_path / "s", manifest=tables)
    make_plan(request)
    assert build_part(request, Part(1, 1)).finished == 3
    (tables / "val.csv").rename(tables / "test.csv")
    with pytest.raises(UsageError, match=r"other options \(manifest \w{64} there, \w{64} here\)"):
        build_part(request, Part(1, 1))


def test_parts_run_beside_each_other_and_a_whole_build_alone(data, tmp_path):
    out, request = tmp_path / "s", request_of(data, tmp_path / "s")
    with lock_folder(out, shared=True):
        for whole in (run_build, lambda *_: make_plan(request)):
            with pytest.raises(BusyError, match="another build is running here, or a part of one"):
                whole(data, out)
        assert build_part(request, Part(5, 50)).shards <= 1
    with lock_folder(out), pytest.raises(BusyError):
        build_part(request, Part(1, 2))


def test_a_commit_that_was_cut_off_is_for_a_whole_build(data, tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / ".new-index.json").touch()
    with pytest.raises(ShardifyError, match="was cut off as it wrote its tables; run it once more, without --part"):
        build_part(request_of(data, tmp_path / "s"), Part(1, 2))


def edit_plan(out, change):
    """Change the first line of a plan, whose hash is made right again."""
    head, *lines, _ = (out / PLAN).read_bytes().splitlines(keepends=True)
    values = json.loads(head)
    change(values)
    lines = [json.dumps(values).encode() + b"\n", *lines]
    (out / PLAN).write_bytes(
        b"".join(lines) + json.dumps({"sha256": hashlib.sha256(b"".join(lines)).hexdigest()}).encode()
    )


def test_machines_that_differ_are_named(data, tmp_path):
    here, out = shutil.copytree(data, tmp_path / "data"), tmp_path / "s"
    request = request_of(here, out)
    make_plan(request)
    for other, said in (
        (request_of(here, out, seed=1), r"made with other options \(seed 0 there, 1 here\); pass the same, or make it"),
        (request_of(here, out, layout="folders"), r"other options \(layout auto there, folders here\)"),
        (request_of(here, out, audio="auto"), r"other options \(audio none there, auto here\)"),
    ):
        with pytest.raises(UsageError, match=said):
            build_part(other, Part(1, 1))
    make_videos(here, ["real/new.mp4"])
    video = here / "real" / "v01.mp4"
    video.write_bytes(video.read_bytes() + b"\0")
    said = r"sees other files than the machine .*: real/v01.mp4 \(bytes and time of change \[\[\d+, \d+\]\] there, \[\["
    with pytest.raises(ShardifyError, match=said):
        build_part(request, Part(1, 1))
    edit_plan(out, lambda head: head["versions"].update(av="1.2.3", cpu="x86_64 avx"))
    said = r"has other libraries than the machine .* kind of processor \(av 1\.2\.3 there, .*cpu x86_64 avx there"
    with pytest.raises(ShardifyError, match=said):
        build_part(request, Part(1, 1))
    assert not list(out.glob("*.tar"))
    make_plan(request)
    assert build_part(request, Part(1, 1)).failed_inputs == 1


def test_a_damaged_plan(data, tmp_path):
    request = request_of(data, tmp_path / "s")
    make_plan(request)
    path = tmp_path / "s" / PLAN
    for content in (b"", path.read_bytes()[:-80], path.read_bytes().replace(b"real/v01", b"real/v02")):
        path.write_bytes(content)
        with pytest.raises(FormatError, match=r"\.plan\.jsonl: is damaged \(.*; make it again with --plan-only"):
            build_part(request, Part(1, 2))


def test_what_a_plan_says_of_a_video_comes_back(data, tmp_path):
    """A box, a piece, a sound beside the video, files outside of the data folder; the data folder lies elsewhere."""
    common = ({"class": 1, "side": -1}, {"class": "real", "side": ""}, 0.1 + 0.2, "g")
    sound = SoundFile(data / "real" / "a.wav", "real/a.wav", 0.25)
    jobs = (
        Job(data / "real" / "v01.mp4", "real/v01.mp4", "a", "train", *common, (0.1, 2.0, 3.5, 4.0), "Deepfakes", "o"),
        Job(tmp_path / "é.mp4", "é.mp4#t=1,2", "b", "train", *common, piece=Piece(1, 2), sound=sound),
    )
    shards = [ShardPlan("train", 3, jobs[:1]), ShardPlan("val", 0, jobs[1:])]
    write_plan(request_of(data, tmp_path), shards)
    for number, shard in enumerate(shards):
        assert read_plan(request_of(data, tmp_path), Part(number, 2)) == (
            [shard],
            ["train-000003.tar", "val-000000.tar"],
        )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.symlink_to(data)
    ((found,), _) = read_plan(request_of(elsewhere, tmp_path), Part(0, 2))
    assert found.jobs[0].path == elsewhere / "real" / "v01.mp4"


@pytest.mark.parametrize("text", ["", "1", "5/4", "-1/4", "1/0", "0/0", "1/4/2", "a/b", "1.5/2"])
def test_no_part(text):
    with pytest.raises(UsageError, match="write it as i/n with i from 0 to n"):
        Part.of(text)


def test_parts_give_nothing_up(data, tmp_path):
    for changes in (Changes(prune=True), Changes(retry_failed=True), Changes(rebuild_changed=True)):
        for act in (make_plan, lambda request: build_part(request, Part.of("1/2"))):
            with pytest.raises(UsageError, match="--retry-failed, --prune and --rebuild-changed are for a whole build"):
                act(request_of(data, tmp_path / "s", changes=changes))
