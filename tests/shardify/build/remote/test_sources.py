"""Builds of videos in a bucket: the folder that a build of local files makes, whatever the network does."""

import functools
import io
import logging
import threading
from concurrent.futures import CancelledError

import pytest
from buckets import make_bucket, moto_endpoint
from builds import SMALL, make_job, tree
from media import noisy_picture
from PIL import Image, PngImagePlugin

from shardify.build.build import build
from shardify.build.estimate import estimate_build
from shardify.build.parts.build_part import build_part, make_plan
from shardify.build.parts.plan_file import Part
from shardify.build.remote import sources as sources_module
from shardify.build.remote.places import MARK, Scratch, open_places
from shardify.build.remote.sources import RemoteSources
from shardify.build.request import BuildRequest, Changes
from shardify.errors import NothingToBuildError, StorageError, UsageError
from shardify.format import synthetic
from shardify.format.index import read_rows
from shardify.format.settings import BuildSettings
from shardify.storage import attempts, remote


@pytest.fixture
def there(data, proxy):
    """The same videos in a bucket."""
    address = make_bucket(moto_endpoint()) / "some" / "videos"
    for path in data.rglob("*.*"):
        remote.write_bytes(address / path.relative_to(data).as_posix(), path.read_bytes())
    return address


@pytest.fixture
def run(there, tmp_path):
    """Any function of a request, on the videos in the bucket; nothing stays in the scratch folder."""

    def run(act=build, size=10**9, changes=Changes(), data=there, **options):  # noqa: B008 (it is frozen)
        request = BuildRequest(data, tmp_path / "s", BuildSettings(**SMALL | options), workers=1, changes=changes)
        try:
            scratch = Scratch(tmp_path / "scratch", size)
            with open_places(request, scratch, writes=True, take_over=False) as opened:
                return act(opened)
        finally:
            assert not list((tmp_path / "scratch").iterdir())

    return run


def test_the_same_folder_as_of_local_videos(run, reference, tmp_path, caplog):
    estimate = run(estimate_build)
    assert (estimate.videos, len(estimate.measured), estimate.failures.total()) == (14, 13, 1)
    report = run()
    assert (report.ok_inputs, report.failed_inputs, tree(tmp_path / "s")) == (13, 1, reference)
    twins = "the same bytes in two classes, 1 times; the first: fake/twin.mp4 (fake, "
    assert caplog.text.count(twins) == 2
    assert run().new_inputs == 0


def test_only_folders_of_killed_builds_go_from_the_scratch_folder(there, tmp_path):
    own, killed = tmp_path / "shardify-build-of-mine", tmp_path / "shardify-build-killed"
    own.mkdir()
    request = BuildRequest(there, tmp_path / "s")
    with open_places(request, Scratch(tmp_path, 10**9), writes=False, take_over=False) as opened:
        killed.mkdir()
        (killed / MARK).touch()
        with open_places(request, Scratch(tmp_path, 10**9), writes=False, take_over=False):
            assert opened.data.is_dir() and own.is_dir() and not killed.exists()


def test_in_parts_as_on_machines_that_see_the_same_objects(run, reference, tmp_path):
    run(make_plan)
    for number in (2, 1):
        run(functools.partial(build_part, part=Part(number, 2)))
    assert run().resumed_shards > 2
    assert tree(tmp_path / "s") == reference


def test_another_content_of_the_same_size(run, there, tmp_path, caplog):
    run()
    content = remote.read_bytes(there / "real" / "v03.mp4")
    remote.write_bytes(there / "real" / "v03.mp4", content[:-1] + bytes([content[-1] ^ 1]))
    assert run().dropped_inputs == 0
    report = run(changes=Changes(rebuild_changed=True))
    assert report.dropped_inputs == report.new_inputs == 1 and "1 videos, for example real/v03.mp4" in caplog.text
    remote.delete(there / "real" / "v03.mp4")
    assert run(changes=Changes(prune=True)).inputs == 13


def test_twins_are_compared_in_parts_and_nothing_else_is_read(run, there, proxy):
    """In the plan; one of equal size is told apart by a block of its middle."""
    content = remote.read_bytes(there / "fake" / "twin.mp4")
    changed = bytearray(content)
    changed[len(content) // 2] ^= 1
    remote.write_bytes(there / "other" / "v90.mp4", bytes(changed))
    proxy.requests.clear()
    run(make_plan)
    twins = [len(proxy.gets(name)) for name in ("fake/twin.mp4", "real/v01.mp4", "other/v90.mp4")]
    assert twins == [2, 2, 1] and len(proxy.gets(".mp4")) == 5


def test_synthetic_pictures_are_for_training_alone(run, there, tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text(synthetic.KEYWORD, synthetic.MARK)
    pictures = there.parent / "pictures"
    for number, name in enumerate(["train/a/1", "train/b/1", "test/a/1", "test/b/1", "test/b/made", "train/b/made"]):
        file = io.BytesIO()
        Image.fromarray(noisy_picture(number, 16, 16)).save(file, "PNG", pnginfo=info if "made" in name else None)
        remote.write_bytes(pictures / f"{name}.png", file.getvalue())
    run(data=pictures, frames=1)
    rows = {row["source"]: row for row in read_rows(tmp_path / "s")}
    assert rows["test/b/made.png"]["error"].startswith("is synthetic, and test is for real ones alone")
    assert (rows["train/b/made.png"]["kind"], rows["train/b/made.png"]["status"]) == ("synthetic", "ok")


def test_of_what_is_no_video_only_lists_of_data_sets_are_fetched(run, there, proxy):
    for name in ("part.zip", "notes.csv", "real/metadata.json"):
        remote.write_bytes(there / name, b"{}")
    proxy.requests.clear()
    run(lambda request: request.list_sources())
    fetched = {path.partition("/videos/")[2] for path, _ in proxy.gets() if "/videos/" in path}
    assert fetched == {"real/metadata.json"}


def test_closing_cuts_off_what_is_on_its_way(there, tmp_path, monkeypatch, proxy):
    monkeypatch.setattr(sources_module, "PART", 1000)
    remote.write_bytes(there / "long.mp4", b"x" * 5000)
    sources = RemoteSources(there, tmp_path, files=1, size=10**9)
    sources.make_folder()
    closing = threading.Thread(target=sources.close)
    proxy.requests.clear()

    def close_first(*_):
        if not sources._closed.is_set():
            closing.start()
            sources._closed.wait()
        return ""

    proxy.fault = close_first
    with pytest.raises(CancelledError):
        next(sources.ready([make_job(sources.folder / "long.mp4")]))
    closing.join()
    assert len(proxy.gets("long.mp4")) == 1
    assert not (sources.folder / "long.mp4").read_bytes().strip(b"\0") and not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize(("files", "size"), [(3, 10**9), (9, 6000)])
def test_no_more_files_and_bytes_than_allowed_are_here(there, tmp_path, files, size):
    sources = RemoteSources(there, tmp_path, files=files, size=size)
    sources.make_folder()
    paths = sorted(sources.folder.rglob("*.mp4"))
    empty, in_hand, most = {path: path.read_bytes() for path in paths}, [], 0
    for job in sources.ready(make_job(path) for path in [*paths, paths[0]]):
        here = [path for path in paths if path.read_bytes() != empty[path]]
        most = max(most, len(here))
        assert sum(path.stat().st_size for path in here) <= size
        if job is not None:
            assert job.path in here
            in_hand.append(job)
        if job is None or len(in_hand) == 2:
            sources.release(in_hand.pop(0))
    sources.close()
    assert 2 <= most <= files and all(path.read_bytes() == empty[path] for path in paths if path != paths[0])


def test_a_network_that_fails_is_no_row(run, reference, tmp_path, monkeypatch, proxy):
    monkeypatch.setattr(attempts, "BOUNDS", attempts.Bounds(connect=0.5, request=0.5, tries=2, total=2))
    for fault in ("503", "reset", "half", "403"):
        proxy.fault = lambda method, path, number, fault=fault: fault * path.endswith("v05.mp4")
        with pytest.raises(StorageError, match=r"/some/videos/real/v05\.mp4: "):
            run()
    proxy.fault = lambda *_: ""
    run()
    assert tree(tmp_path / "s") == reference


def test_an_object_that_goes_or_changes_after_the_listing_is_a_row(run, there, tmp_path, caplog):
    content = (there / "real" / "v05.mp4", there / "fake" / "v06.mp4")

    def build_later(request):
        remote.delete(content[0])
        remote.write_bytes(content[1], b"another one")
        return build(request)

    assert run(build_later).failed_inputs == 3
    errors = {row["source"]: row["error"] for row in read_rows(tmp_path / "s") if row["status"] == "failed"}
    assert errors["real/v05.mp4"] == errors["fake/v06.mp4"] == "cannot be opened: No such file or directory"
    assert "v05.mp4: is not there" in caplog.text and "v06.mp4: was written by somebody else" in caplog.text


def test_what_cannot_be_built(run, there, tmp_path, caplog):
    with pytest.raises(UsageError, match=r"\w+/\w+\.mp4: takes .* and --scratch-gb is 5e-07; pass more"):
        run(size=500)
    remote.write_bytes(there / "real" / ("v" * 300), b"")
    remote.write_bytes(there / "real" / "v01.mp4" / "below.mp4", b"")
    run(lambda request: request.list_sources())
    assert "left out: 2 objects whose names no files can have; first: 'real/v01.mp4/below.mp4'" in caplog.text
    nothing, scratch = BuildRequest(there / "none", tmp_path / "s"), Scratch(tmp_path / "scratch", 1)
    opening = open_places(nothing, scratch, writes=True, take_over=False)
    with pytest.raises(NothingToBuildError, match=r"/none: holds no object; check the address"), opening:
        pass


def test_lines_of_the_log_name_the_bucket(run, there, caplog):
    caplog.set_level("INFO")
    make = logging.getLogRecordFactory()
    run(lambda request: logging.getLogger("shardify.some").info(f"{request.data}: %s", request.data))
    assert caplog.messages[-1] == f"{there}: {there}" and logging.getLogRecordFactory() is make
