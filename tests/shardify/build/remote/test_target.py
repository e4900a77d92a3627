"""Builds into a bucket: the folder that a local build makes, held by one build, wherever that is cut off."""

import pytest
from buckets import GoogleProxy, make_bucket, moto_endpoint
from builds import SMALL, make_videos, run_build, tree, video_names
from click.testing import CliRunner

from shardify.build.build import build
from shardify.build.estimate import estimate_build
from shardify.build.parts.build_part import make_plan
from shardify.build.remote.places import Scratch, open_places
from shardify.build.remote.target import LOCK
from shardify.build.request import BuildRequest, Changes
from shardify.cli.main import main
from shardify.errors import BusyError, ConflictError, ShardifyError, StorageError, UsageError
from shardify.format.settings import BuildSettings
from shardify.storage import attempts, remote
from shardify.storage.address import place_of


@pytest.fixture
def there(proxy):
    return make_bucket(moto_endpoint()) / "some" / "shards"


@pytest.fixture
def run(there, data, tmp_path):
    """Any function of a request that builds into the bucket."""

    def run(act=build, take_over=False, writes=True, data=data, there=there, changes=Changes()):  # noqa: B008 (frozen)
        request = BuildRequest(data, there, BuildSettings(**SMALL), workers=1, timeout_seconds=60, changes=changes)
        scratch = Scratch(tmp_path / "scratch", 10**9)
        with open_places(request, scratch, writes=writes, take_over=take_over) as opened:
            return act(opened)

    return run


def fetched(there, folder):
    """The bucket's files as a folder of this machine."""
    for file in remote.list_files(there):
        remote.download(there / file.name, folder / file.name)
    return tree(folder)


def test_the_same_folder_as_on_this_machine_first_and_later(run, there, data, reference, tmp_path):
    assert run(estimate_build, writes=False).videos == 14
    assert (report := run()).ok_inputs == 13 and report.failed_inputs == 1
    assert fetched(there, tmp_path / "first") == reference
    assert run().new_inputs == 0
    later = make_videos(tmp_path / "later", [*video_names(12)[1:], *video_names(3, "w")])
    changes = Changes(prune=True, retry_failed=True)
    run(data=later, changes=changes)
    run_build(later, tmp_path / "first", changes=changes)
    assert fetched(there, tmp_path / "second") == tree(tmp_path / "first")


def test_cut_off_anywhere_it_resumes(run, there, reference, proxy, tmp_path, monkeypatch, caplog):
    """Nothing that is written arrives from the fourth write on, in the next build from its ninth, and so on."""
    monkeypatch.setattr(attempts, "BOUNDS", attempts.Bounds(connect=0.5, request=0.5, tries=1, total=1))
    for allowed in range(3, 60, 5):
        writes = []

        def cut(method, path, number):
            if method in ("PUT", "POST", "DELETE"):
                writes.append(path)  # noqa: B023 (called within the turn)
            return "503" if len(writes) > allowed else ""  # noqa: B023

        proxy.fault = cut
        try:
            run(take_over=True)
            break
        except StorageError:
            continue
    assert 8 < allowed < 58 and "of 5 shards are finished already" in caplog.text
    assert fetched(there, tmp_path / "s") == reference


def test_cut_off_as_it_removes_what_is_pruned_it_resumes(run, there, proxy, tmp_path, monkeypatch):
    """Each build can remove one object, and then its network is gone."""
    first, pruned = (make_videos(tmp_path / str(count), video_names(count)) for count in (6, 2))
    changes = Changes(prune=True)
    run_build(first, tmp_path / "s")
    run_build(pruned, tmp_path / "s", changes=changes)
    run(data=first)
    monkeypatch.setattr(attempts, "BOUNDS", attempts.Bounds(connect=0.5, request=0.5, tries=1, total=1))
    for times_cut in range(30):  # noqa: B007 (read at the end)
        removals = []

        def cut(method, path, number):
            if path.endswith("?delete"):
                removals.append(path)  # noqa: B023 (called within the turn)
            return "503" if len(removals) > 1 else ""  # noqa: B023

        proxy.fault = cut
        try:
            run(data=pruned, changes=changes, take_over=True)
            break
        except StorageError:
            continue
    proxy.fault = lambda *_: ""
    run(data=pruned, take_over=True)  # which removes the lock
    assert times_cut > 2 and fetched(there, tmp_path / "fetched") == tree(tmp_path / "s")


def test_two_builds_at_once_and_a_build_that_has_died(run, there, data, reference, tmp_path):
    def overtaken(request):
        with pytest.raises(BusyError, match=r"/some/shards: another build is running here, on \S+; .* --take-over"):
            run()
        options = ("--size", "32", "--frames", "4", "--shard-size", "4", "--workers", "1")
        command = ["build", str(data), str(there), *options]
        held = CliRunner().invoke(main, command)
        assert held.exit_code == BusyError.exit_code
        taken = CliRunner().invoke(main, [*command, "--take-over"])
        assert taken.exit_code == 0 and f"next: python -m trainer --shards {there}" in taken.output
        return build(request)

    with pytest.raises(ShardifyError, match="another build has taken over; nothing more is written by this one"):
        run(overtaken)
    assert fetched(there, tmp_path / "s") == reference
    remote.write_bytes(there / LOCK, b"no json")
    with pytest.raises(BusyError, match="on a machine that is not known"):
        run()
    here = open_places(BuildRequest(data, tmp_path / "s"), Scratch(None, 1), writes=True, take_over=True)
    with pytest.raises(UsageError, match="--take-over is for SHARDS in a bucket"), here:
        pass


def test_a_build_that_is_overtaken_while_it_sends_a_shard_says_so(run, there, proxy):
    def take_over(method, path, number):
        if method == "PUT" and path.endswith("/train-000001.tar"):
            remote.write_bytes(there / LOCK, b"of another build")
        return ""

    proxy.fault = take_over
    with pytest.raises(ShardifyError, match=r"taken over; .*; train-000001\.tar was sent meanwhile, .* verify s3://"):
        run()
    assert remote.read_bytes(there / LOCK) == b"of another build"
    assert "train-000002.tar" not in {file.name for file in remote.list_files(there)}


def test_a_google_bucket_where_conditions_are_on_generations(run, there, tmp_path, monkeypatch):
    videos = make_videos(tmp_path / "videos", video_names(3))
    with GoogleProxy(moto_endpoint()) as proxy:
        monkeypatch.setenv("GOOGLE_BASE_URL", proxy.endpoint)
        monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
        google = place_of(str(there).replace("s3:", "gs:"))
        run(data=videos, there=google)
        remote.write_bytes(google / LOCK, b"{}")
        with pytest.raises(BusyError):
            run(data=videos, there=google)
        make_videos(videos, video_names(1, "w"))
        assert run(data=videos, there=google, take_over=True).new_inputs == 1  # in place of an index and a lock
        lock, index = google / LOCK, remote.head(google / "index.json")
        remote.write_bytes(google / "index.json", b"of another build")
        with pytest.raises(ConflictError, match=r"^gs://.*/index\.json: was written by somebody else meanwhile"):
            remote.replace(google / "index.json", b"", index)
        remote.replace(lock, b"second", remote.replace(lock, b"first", remote.create(lock, b"made")))
        assert remote.read_bytes(lock) == b"second"


def test_an_index_that_was_written_by_somebody_else(run, there, data, tmp_path):
    run()
    more = make_videos(tmp_path / "more", video_names(14))

    def build_after(request):
        remote.write_bytes(there / "index.json", b"{}")
        return build(request)

    with pytest.raises(ConflictError, match=r"index\.json: was written by somebody else meanwhile"):
        run(build_after, data=more)
    assert remote.read_bytes(there / "index.json") == b"{}"


def test_what_is_refused(run, there):
    with pytest.raises(UsageError, match=r"s3://.*/some/shards: parts are built into a folder that all machines have"):
        run(make_plan)
    remote.write_bytes(there / "notes.txt", b"")
    with pytest.raises(UsageError, match=r"^s3://.*/some/shards: holds notes.txt and is no shards folder"):
        run()
    assert [file.name for file in remote.list_files(there)] == ["notes.txt"]
