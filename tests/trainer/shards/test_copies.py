"""Copies of remote shards: which stay, which go, and who says so."""

import contextlib
import errno
import os
import threading

import pytest
import torch
from buckets import Proxy, make_bucket, moto_endpoint, put_folder, use_endpoint
from hub_standin import hub_of

from shardify.format.fetch import MARK
from shardify.storage import remote
from trainer.config.settings import DataSettings
from trainer.data.loader import ClipLoader
from trainer.errors import FormatError, SettingsError
from trainer.shards.copies import free_bytes, hold, take_turn
from trainer.shards.mix import open_all
from trainer.shards.shard_cache import ShardCache, cache_of_saved
from trainer.shards.shard_set import open_shards

HUB = "hf://datasets/me/data/shards"


@pytest.fixture(scope="module")
def there(shards_folder):
    """The shards in a bucket."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_endpoint(monkeypatch, moto_endpoint())
        return put_folder(shards_folder, make_bucket(moto_endpoint()) / "there")


@pytest.fixture(autouse=True)
def endpoint(monkeypatch, there):
    use_endpoint(monkeypatch, moto_endpoint())


@pytest.fixture
def hub(shards_folder, monkeypatch):
    with hub_of(shards_folder.parent, monkeypatch) as hub:
        yield hub


def all_clips(shards):
    return [bytes(*shards.read(number)) for number in range(len(shards.samples))]


def read_until(condition, loader):
    """Whole epochs, until it holds."""
    for epoch in range(200):
        list(loader.batches(epoch))
        if condition():
            return
    raise AssertionError("it never holds")


def end_of_downloads():
    for thread in threading.enumerate():
        if thread.name == "shards":
            thread.join()


def copies(folder):
    return sorted(path.name for path in folder.glob("*/*.tar"))


def bytes_of(paths):
    return sum(path.stat().st_size for path in paths)


def filled(cache, there):
    """The bucket's shards, those of train copied to here."""
    shards = open_shards(there, cache=cache)
    loader = ClipLoader(shards, batch_size=4)
    read_until(lambda: len(copies(cache.folder)) == 3, loader)
    loader.close()
    end_of_downloads()
    return shards


def test_copies_that_are_all_there_is_stay_while_they_are_read(there, hub, tmp_path, shards_folder):
    tars, tables = bytes_of(shards_folder.glob("*.tar")), bytes_of(shards_folder.glob("[is]*.*"))
    bound = (tars + 2 * tables + max(path.stat().st_size for path in shards_folder.glob("train*.tar"))) / 1e9
    hub_shards = open_shards(HUB, cache=ShardCache(tmp_path, bound))
    expected = all_clips(open_shards(shards_folder))
    assert all_clips(hub_shards) == expected
    (here,) = {path.parent for path in tmp_path.glob("*/*.tar")}
    other = ClipLoader(open_shards(there, cache=ShardCache(tmp_path, bound)), batch_size=4, shuffle_shards=1)
    read_until(lambda: any(path.parent != here for path in tmp_path.glob("*/*.tar")), other)
    other.close()
    end_of_downloads()
    assert len(list(here.glob("*.tar"))) == 5
    (tmp_path / "tight").mkdir()
    mixed = open_all([there, HUB], cache=ShardCache(tmp_path / "tight", bound))
    assert all_clips(mixed) == expected * 2


def test_copies_that_nobody_reads_go_for_others(hub, tmp_path, shards_folder):
    bound = 1.5 * bytes_of(shards_folder.iterdir()) / 1e9
    all_clips(open_shards(HUB, cache=ShardCache(tmp_path, bound)))
    index = (shards_folder / "index.json").read_bytes()
    other = tmp_path / "hub" / "other"
    other.mkdir(parents=True)
    for path in shards_folder.iterdir():
        os.link(path, other / path.name)
    hub.folder = other.parent
    (other / "index.json").unlink()
    (other / "index.json").write_bytes(index + b"\n")
    assert all_clips(open_shards("hf://datasets/me/data/other", cache=ShardCache(tmp_path, bound)))
    assert len(list(tmp_path.glob("other-*/*.tar"))) == 5 and len(list(tmp_path.glob("shards-*/*.tar"))) < 5


def test_tables_of_earlier_builds_go_unless_somebody_reads_them(shards_folder, tmp_path):
    there = put_folder(shards_folder, make_bucket(moto_endpoint()) / "rebuilt")
    index, bound = (shards_folder / "index.json").read_bytes(), 1.5 * bytes_of(shards_folder.glob("[is]*.*")) / 1e9
    read = open_shards(there, cache=ShardCache(tmp_path, bound))
    for build in range(1, 4):
        remote.write_bytes(there / "index.json", index + build * b"\n")
        newest = open_shards(there, cache=ShardCache(tmp_path, bound)).tables
    assert {mark.parent for mark in tmp_path.glob(f"*/{MARK}")} == {read.tables, newest}
    assert not list(tmp_path.glob(".*.gone"))


def test_what_is_being_copied_counts(tmp_path):
    part = tmp_path / "shards-1" / ".1.tmp" / "shards" / "val.tar"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(4_000))
    (tmp_path / "shards-1" / MARK).touch()
    assert free_bytes(tmp_path, 1e-5) == 6_000


def test_room_on_this_machine_is_looked_at_before_each_shard_of_the_hub(hub, tmp_path, shards_folder):
    bound = 1.1 * bytes_of(shards_folder.iterdir()) / 1e9
    other = tmp_path / "other"
    other.mkdir()
    (other / MARK).touch()

    def fill(method, path):
        if path.endswith(".tar"):
            (other / "samples.npy").write_bytes(bytes(int(bound * 1e9)))
        return 0

    hub.fault = fill
    with hold(other, is_whole=True), pytest.raises(FormatError, match="has room for 0 B"):
        open_shards(HUB, cache=ShardCache(tmp_path, bound)).fetch()
    assert len(copies(tmp_path)) == 1


def test_one_of_all_processes_copies_shards_at_a_time(shards_folder, tmp_path, monkeypatch):
    turns = []

    def look(*_):
        with contextlib.ExitStack() as turn:
            turns.append(take_turn(tmp_path, turn))
        return ""

    with Proxy(moto_endpoint(), look) as proxy:
        use_endpoint(monkeypatch, proxy.endpoint)
        filled(ShardCache(tmp_path), put_folder(shards_folder, make_bucket(proxy.endpoint) / "there"))
    assert any(turns) and not all(turns)  # tables come without a turn


def test_a_damaged_copy_of_the_hub_comes_again(hub, tmp_path, shards_folder):
    shards = open_shards(HUB, cache=ShardCache(tmp_path))
    expected = all_clips(open_shards(shards_folder))
    assert all_clips(shards) == expected
    copy = next(tmp_path.glob("*/train-000000.tar"))
    copy.write_bytes(bytes(copy.stat().st_size))
    assert all_clips(shards) == expected
    copy.write_bytes(b"cut")
    assert all_clips(open_shards(HUB, cache=ShardCache(tmp_path))) == expected


def test_a_shard_that_is_damaged_on_the_hub_is_named_and_comes_once(hub, tmp_path, shards_folder):
    damaged = tmp_path / "hub" / "shards"
    damaged.mkdir(parents=True)
    for path in shards_folder.iterdir():
        os.link(path, damaged / path.name)
    hub.folder, tar = damaged.parent, damaged / "val-000000.tar"
    size = tar.stat().st_size
    tar.unlink()
    tar.write_bytes(bytes(size))
    shards = open_shards(HUB, cache=ShardCache(tmp_path))
    for number in shards.numbers("val")[:2]:
        with pytest.raises(FormatError, match=r"val-000000\.tar: differs from index\.json"):
            shards.read(int(number))
    assert len([path for method, path in hub.requests if method == "GET" and path.endswith(tar.name)]) == 1


@pytest.mark.parametrize("left", [1, 0])
def test_a_lower_bound_holds_for_copies_that_are_there(there, tmp_path, left, shards_folder):
    filled(ShardCache(tmp_path), there)
    largest = max(path.stat().st_size for path in shards_folder.glob("train*.tar"))
    bound = left * (bytes_of(shards_folder.glob("[is]*.*")) + largest) / 1e9
    loader = ClipLoader(open_shards(there, cache=ShardCache(tmp_path, bound)), batch_size=4)
    read_until(lambda: len(copies(tmp_path)) == left, loader)
    loader.close()


def test_a_shard_whose_copies_are_always_damaged_is_not_removed_for_ever(there, tmp_path):
    shards = filled(ShardCache(tmp_path), there)
    copy = next(tmp_path.glob("*/train-000000.tar"))
    whole, address = copy.read_bytes(), next(path for path in shards.paths.values() if path.name == copy.name)
    gone = []
    for _ in range(3):
        shards.cache.drop(address)
        gone.append(not copy.exists())
        copy.write_bytes(whole)
    assert gone == [True, True, False]


def test_a_copy_that_cannot_be_removed_ends_the_copying_in_one_line(there, tmp_path, monkeypatch, caplog):
    filled(ShardCache(tmp_path), there)

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    loader = ClipLoader(open_shards(there, cache=ShardCache(tmp_path, 0)), batch_size=4)
    read_until(lambda: "no more shards" in caplog.text, loader)
    loader.close()
    assert caplog.text.count("no more shards are copied (Permission denied)") == 1


def test_a_second_run_says_once_that_another_copies_and_takes_over(there, tmp_path, shards_folder, caplog):
    other = put_folder(shards_folder, make_bucket(moto_endpoint()) / "other")
    remote.write_bytes(other / "index.json", (shards_folder / "index.json").read_bytes() + b"\n")
    first, same = (ClipLoader(open_shards(there, cache=ShardCache(tmp_path)), batch_size=4) for _ in range(2))
    second = ClipLoader(open_shards(other, cache=ShardCache(tmp_path)), batch_size=4)
    for loader in (first, same):
        read_until(lambda: len(copies(tmp_path)) == 3, loader)
    read_until(lambda: "another process copies other shards" in caplog.text, second)
    first.close()
    same.close()
    read_until(lambda: len(copies(tmp_path)) == 6, second)  # in the middle of whatever pass it is
    second.close()
    assert caplog.text.count("another process copies") == 1 and "of other-" in caplog.text


def test_without_a_home_folder_only_the_default_is_refused(there, tmp_path, monkeypatch):
    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pathlib.Path.home", unknown)
    assert open_shards(there, cache=ShardCache(tmp_path)).read(0)
    with pytest.raises(SettingsError, match=r"data\.cache_dir is auto, and no home folder is known"):
        open_shards(there, cache=ShardCache())


def test_a_pass_resumes_at_any_step_with_the_cache_emptied(there, tmp_path, shards_folder):
    expected = [batch.numbers.tolist() for batch in ClipLoader(shards_folder, batch_size=4, seed=3).batches(1)]
    clips = [clips for clips, _ in ClipLoader(shards_folder, batch_size=4, seed=3, shuffle=False)]
    loader = ClipLoader(filled(ShardCache(tmp_path / "old"), there), batch_size=4, seed=3)
    loader.set_epoch(1)
    stepping = iter(loader)
    for step in range(1, len(expected)):
        next(stepping)
        emptied = ClipLoader(open_shards(there, cache=ShardCache(tmp_path / f"step-{step}")), batch_size=4, seed=3)
        emptied.load_state_dict(loader.state_dict())
        for numbers, (found, _) in zip(expected[step:], emptied, strict=True):
            wanted = [clips[number // 4][number % 4] for number in numbers]
            assert found.equal(torch.stack(wanted))
        emptied.close()
    loader.close()


@pytest.mark.parametrize("named", ["auto", "here", "gone"])
def test_the_cache_of_a_saved_run_keeps_its_bound_also_where_its_folder_is_not_here(tmp_path, named):
    (tmp_path / "here").mkdir()
    folder = named if named == "auto" else str(tmp_path / named)
    cache = cache_of_saved(DataSettings(cache_dir=folder, cache_gb=7))
    assert cache._gigabytes == 7 and (cache._options[0] == "auto") == (named != "here")
