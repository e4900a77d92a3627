"""Shards in a bucket: the clips of the folder, from parts, from copies, and over a network that fails."""

import dataclasses
import errno
import itertools
import os
import pickle

import numpy as np
import pytest
from buckets import Proxy, make_bucket, moto_endpoint, put_folder, use_endpoint

from shardify.errors import StorageError
from shardify.format.fetch import MARK
from shardify.storage import attempts, local, remote
from trainer.data.loader import ClipLoader
from trainer.errors import FormatError
from trainer.shards.mix import mix_shards, open_all
from trainer.shards.shard_cache import ShardCache
from trainer.shards.shard_set import open_shards

COUNTER = itertools.count()
FAULTS = ("503", "reset", "half", "short", "hang", "wrong")


@pytest.fixture(scope="module")
def there(shards_folder):
    """The shards in a bucket."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_endpoint(monkeypatch, moto_endpoint())
        return put_folder(shards_folder, make_bucket(moto_endpoint()) / "data" / "shards")


def before_the_bucket(monkeypatch, bounds):
    """A proxy; clients with these bounds are new ones in each test, and go there."""
    monkeypatch.setattr(attempts, "BOUNDS", dataclasses.replace(bounds, total=bounds.total + 0.001 * next(COUNTER)))
    proxy = Proxy(moto_endpoint())
    use_endpoint(monkeypatch, proxy.endpoint)
    return proxy


@pytest.fixture
def proxy(monkeypatch, there):
    with before_the_bucket(monkeypatch, attempts.Bounds()) as proxy:
        yield proxy


@pytest.fixture
def failing(monkeypatch, there):
    """One that is to fail, so that nobody has patience with it."""
    with before_the_bucket(monkeypatch, attempts.Bounds(connect=1, request=1, tries=3, total=6)) as proxy:
        yield proxy


def all_clips(shards):
    return [bytes(*shards.read(number)) for number in range(len(shards.samples))]


def numbers_of(loader, epoch):
    return [batch.numbers.tolist() for batch in loader.batches(epoch)]


def run_until_quiet(loaders, proxy):
    """Whole epochs, until one asks nothing of the bucket."""
    for epoch in range(50):
        before = len(proxy.gets(".tar"))
        for loader in loaders:
            list(loader.batches(epoch))
        if len(proxy.gets(".tar")) == before:
            return
    raise AssertionError("the shards are never all there")


def whole_gets(proxy, folder):
    """How often each shard was asked for as a whole."""
    sizes = {path.name: path.stat().st_size for path in folder.glob("*.tar")}
    asked = [(path.rpartition("/")[2], part) for path, part in proxy.gets(".tar")]
    return {name: asked.count((name, f"bytes=0-{size - 1}")) for name, size in sizes.items()}


@pytest.mark.parametrize("gigabytes", ["auto", 0])
def test_clips_and_their_order_are_those_of_the_folder(shards_folder, there, proxy, tmp_path, gigabytes):
    whole, cache = open_shards(shards_folder), ShardCache(tmp_path, gigabytes)
    shards = open_shards(str(there), cache=cache)
    assert (shards.name, shards.fingerprint, shards.build) == (str(there), whole.fingerprint, whole.build)
    assert shards.where(0).startswith(f"{there}/train-000000.tar: clip ")
    expected = all_clips(whole)
    assert all_clips(shards) == expected
    here, remotely = (ClipLoader(found, batch_size=8, seed=3, shuffle_shards=2) for found in (whole, shards))
    assert [numbers_of(here, epoch) for epoch in range(3)] == [numbers_of(remotely, epoch) for epoch in range(3)]
    resumed = ClipLoader(open_shards(there, cache=ShardCache(tmp_path / "elsewhere", gigabytes)), batch_size=8, seed=3)
    resumed.load_state_dict(ClipLoader(whole, batch_size=8, seed=3).state_dict() | {"epoch": 1, "step": 1})
    assert [labels.tolist() for _, labels in resumed] == [
        whole.labels[numbers].tolist() for numbers in numbers_of(ClipLoader(whole, batch_size=8, seed=3), 1)[1:]
    ]
    if gigabytes == "auto":
        run_until_quiet([remotely], proxy)
        assert sorted(path.name for path in tmp_path.glob("*/*.tar")) == [f"train-{n:06d}.tar" for n in range(3)]
    else:
        assert not list(tmp_path.glob("*/*.tar"))
    remotely.close()
    assert all_clips(pickle.loads(pickle.dumps(shards))) == expected


def test_ranks_share_one_cache_into_which_each_shard_comes_once(shards_folder, there, proxy, tmp_path):
    ranks = [open_shards(there, cache=ShardCache(tmp_path)) for _ in range(2)]
    loaders = [
        ClipLoader(shards, split, batch_size=4, rank=rank, world=2)
        for split in ("train", "val")
        for rank, shards in enumerate(ranks)
    ]
    run_until_quiet(loaders, proxy)
    assert whole_gets(proxy, shards_folder) == {
        path.name: int(not path.name.startswith("test")) for path in shards_folder.glob("*.tar")
    }
    assert len([path for method, path, _ in proxy.requests if path.endswith("samples.npy") and method == "GET"]) == 1
    for loader in loaders:
        loader.close()
    before = len(proxy.requests)
    again = ClipLoader(open_shards(there, cache=ShardCache(tmp_path)), batch_size=4)
    assert len([*again.batches(0)]) == 5
    assert [path.rpartition("/")[2] for _, path, _ in proxy.requests[before:] if ".tar" in path] == []
    again.close()


def test_the_cache_stays_below_its_bound(shards_folder, there, proxy, tmp_path):
    sizes = [path.stat().st_size for path in shards_folder.glob("train*.tar")]
    tables = sum((shards_folder / name).stat().st_size for name in ("index.json", "samples.npy", "samples.csv"))
    bound = tables + max(sizes) + min(sizes)
    stranger = tmp_path / "other-0123456789abcdef" / "train-000000.tar"
    own = tmp_path / "own" / "train-000000.tar"  # of the user
    for path in (stranger, stranger.parent / MARK, own):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(min(sizes)) if path != stranger.parent / MARK else b"")
    most = []

    def look(method, path, number):
        found = [path for path in tmp_path.rglob("*") if path.is_file() and path != own and path.name != ".lock"]
        most.append(sum(path.stat().st_size for path in found))
        return ""

    proxy.fault = look
    shards = open_shards(there, cache=ShardCache(tmp_path, bound / 1e9))
    loader = ClipLoader(shards, batch_size=4, shuffle_shards=1)
    expected = [numbers_of(ClipLoader(shards_folder, batch_size=4, shuffle_shards=1), epoch) for epoch in range(8)]
    assert [numbers_of(loader, epoch) for epoch in range(8)] == expected
    loader.close()
    assert sum(whole_gets(proxy, shards_folder).values()) >= 2
    assert max(most) <= bound and not stranger.exists() and own.exists()


def test_a_damaged_copy_is_removed_and_the_clip_read_from_the_bucket(there, proxy, tmp_path, shards_folder):
    shards = open_shards(there, cache=ShardCache(tmp_path))
    loader = ClipLoader(shards, batch_size=4)
    run_until_quiet([loader], proxy)
    loader.close()
    copy = next(tmp_path.glob("*/train-000000.tar"))
    copy.write_bytes(bytes(copy.stat().st_size))
    assert all_clips(shards) == all_clips(open_shards(shards_folder))
    assert not copy.exists()
    (tmp_path / copy.parent.name / "samples.npy").write_bytes(b"damaged")
    assert all_clips(open_shards(there, cache=ShardCache(tmp_path))) == all_clips(open_shards(shards_folder))


def test_a_clips_crc_is_looked_at_once_for_each_copy_and_whenever_it_comes_over_the_network(
    there, failing, tmp_path, shards_folder
):
    shards = open_shards(there, cache=ShardCache(tmp_path))
    loader = ClipLoader(shards, batch_size=4)
    run_until_quiet([loader], failing)
    loader.close()
    number, checked = int(shards.numbers("train")[0]), np.zeros(len(shards.samples), np.int64)
    whole = shards.read(number, checked=checked)[0]
    copy = shards.copy / shards.shard(number).name
    made, content = copy.stat().st_mtime_ns, copy.read_bytes()
    copy.write_bytes(content.replace(whole, bytes(len(whole))))
    os.utime(copy, ns=(made, made))
    assert shards.read(number, checked=checked)[0] == bytes(len(whole)), "what was right is not looked at again"
    assert shards.read(number)[0] == whole and not copy.exists()
    copy.write_bytes(content.replace(whole, bytes(len(whole))))
    assert shards.read(number, checked=checked)[0] == whole, "another copy is"
    assert shards.read(number, checked=checked)[0] == whole and not copy.exists()
    failing.fault = lambda *_: "wrong"
    with pytest.raises(FormatError, match="payload differs from the index"):
        shards.read(number, checked=checked)


def test_a_full_disk_stops_the_copies_and_is_said_once(there, proxy, tmp_path, monkeypatch, caplog):
    shards = open_shards(there, cache=ShardCache(tmp_path))

    def fill(self, *_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(local, "rename", fill)
    loader = ClipLoader(shards, batch_size=4)
    lines = []
    for epoch in range(50):
        already = len(lines)
        assert len(list(loader.batches(epoch))) == 5
        lines = [record.getMessage() for record in caplog.records if "no more shards" in record.getMessage()]
        if already:
            break
    loader.close()
    assert lines == [f"{tmp_path}: no more shards are copied (No space left on device); they are read in parts"]
    assert not list(tmp_path.glob("*/*.tar*"))


def test_a_network_that_fails_at_times_gives_the_right_bytes(shards_folder, there, failing, tmp_path):
    shards, faults = open_shards(there, cache=ShardCache(tmp_path, 0)), itertools.cycle(FAULTS)
    failing.fault = lambda method, path, number: next(faults) if number % 3 == 0 else ""
    assert all_clips(shards) == all_clips(open_shards(shards_folder))


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ("503", StorageError, "HTTP 503"),
        ("403", StorageError, "access is refused"),
        ("404", FormatError, r"clip .* cannot be read \(it is not there\)"),
        ("wrong", FormatError, "payload differs from the index"),
    ],
)
def test_what_stays_wrong_is_one_line_that_names_the_shard(there, failing, tmp_path, fault, error, words):
    loader = ClipLoader(open_shards(there, cache=ShardCache(tmp_path, 0)), on_error="stop")
    failing.fault = lambda method, path, number: fault if path.endswith(".tar") else ""
    with pytest.raises(error, match=words) as caught:
        list(loader.batches(0))
    assert str(caught.value).startswith(f"{there}/train-00000")


def test_a_network_that_is_gone_is_no_damaged_clip(there, failing, tmp_path):
    loader = ClipLoader(open_shards(there, cache=ShardCache(tmp_path, 0)), on_error="skip", max_errors=1.0)
    failing.fault = lambda method, path, number: "503" if path.endswith(".tar") else ""
    with pytest.raises(StorageError, match="HTTP 503"):
        list(loader.batches(0))


def test_a_folder_that_is_not_whole_is_named(there, proxy, tmp_path, shards_folder):
    cut = put_folder(shards_folder, make_bucket(moto_endpoint()) / "cut")
    remote.write_bytes(cut / "val-000000.tar", b"short")
    with pytest.raises(FormatError, match=r"cut/val-000000\.tar: has 5 bytes instead of"):
        open_shards(cut, cache=ShardCache(tmp_path))
    remote.delete(cut / "val-000000.tar")
    with pytest.raises(FormatError, match=r"/cut: val-000000\.tar is missing \(1 of 5 shards"):
        open_shards(cut, cache=ShardCache(tmp_path))
    remote.write_bytes(cut / "samples.npy", b"another")
    with pytest.raises(FormatError, match=r"cut/samples\.npy: differs from index\.json"):
        open_shards(cut, cache=ShardCache(tmp_path / "new"))
    with pytest.raises(FormatError, match=r"has no index\.json, or is not there"):
        open_shards(cut / "deeper", cache=ShardCache(tmp_path))
    with pytest.raises(FormatError, match="whole folders are opened"):
        open_shards(cut / "train-000000.tar")


def test_folders_here_and_there_are_mixed(there, proxy, tmp_path, shards_folder, own_shards):
    mixed = open_all([own_shards, str(there)], cache=ShardCache(tmp_path / "cache"))
    count = len(mixed.samples) // 2
    assert all_clips(mixed)[count:] == all_clips(mixed)[:count] == all_clips(open_shards(shards_folder))
    loader = ClipLoader(mixed, batch_size=8)
    run_until_quiet([loader], proxy)
    loader.close()
    assert len(list(tmp_path.glob("cache/*/train-*.tar"))) == 3
    other = put_folder(shards_folder, make_bucket(moto_endpoint()))
    apart = mix_shards([open_shards(place, cache=ShardCache(tmp_path / place.name)) for place in (there, other)])
    assert all_clips(apart) == all_clips(mixed)
