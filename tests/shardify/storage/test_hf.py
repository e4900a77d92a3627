"""Data sets of the Hub, on a stand-in for it: whole files of one commit, and what users are told."""

import sys

import pytest
from hub_standin import COMMIT, hub_of

from shardify.errors import MissingObjectError, StorageError, UsageError
from shardify.storage import hf
from shardify.storage.address import place_of
from shardify.storage.place import open_place
from trainer.data.loader import ClipLoader
from trainer.errors import FormatError
from trainer.shards.shard_cache import ShardCache
from trainer.shards.shard_set import open_shards


@pytest.fixture
def hub(shards_folder, monkeypatch):
    with hub_of(shards_folder.parent, monkeypatch) as hub:
        yield hub


def test_a_data_set_is_pinned_copied_whole_and_read_here(hub, shards_folder, tmp_path):
    shards = open_shards("hf://datasets/me/data@v1/shards", cache=ShardCache(tmp_path))
    assert str(shards.folder) == f"hf://datasets/me/data@{COMMIT}/shards"
    here = open_shards(shards_folder)
    assert shards.fingerprint == here.fingerprint
    assert not [path for _, path in hub.requests if path.endswith(".tar")]  # not before a clip is read
    assert all(shards.read(number) == here.read(number) for number in range(len(here.samples)))
    assert [path for method, path in hub.requests if method == "GET" and path.endswith("train-000000.tar")] == [
        f"/datasets/me/data/resolve/{COMMIT}/shards/train-000000.tar"
    ]
    before = len(hub.requests)
    assert open_shards("hf://datasets/me/data/shards", cache=ShardCache(tmp_path)).read(0) == here.read(0)
    assert not [path for _, path in hub.requests[before:] if path.endswith(".tar")]


def test_what_does_not_fit_is_said_before_it_is_copied(hub, tmp_path):
    shards = open_shards("hf://datasets/me/data/shards", cache=ShardCache(tmp_path, 0))
    with pytest.raises(FormatError, match=r"its shards take .* has room for 0 B; set data\.cache_dir"):
        ClipLoader(shards).begin(0)
    assert not list(tmp_path.glob("*/*.tar"))


@pytest.mark.parametrize("code", [429, 503])
def test_a_hub_that_is_busy_is_asked_again(hub, code):
    failures = [code] * 2
    hub.fault = lambda method, path: failures.pop() if failures and "/resolve/" in path else 0
    content = hf.read_bytes(place_of(f"hf://datasets/me/data@{COMMIT}/shards/index.json"))
    assert content == (hub.folder / "shards" / "index.json").read_bytes()


@pytest.mark.parametrize(
    ("name", "code", "error", "words"),
    [
        ("me/data@v1/none", 0, FormatError, "has no index.json, or is not there"),
        ("me/other", 0, MissingObjectError, "not there, or not for you"),
        ("me/data", 403, StorageError, "access is refused"),
        ("me/data", 503, StorageError, "HTTP 503"),
        ("me", 0, UsageError, "write hf://datasets/OWNER/NAME"),
    ],
)
def test_what_stays_wrong_is_one_line(hub, tmp_path, name, code, error, words):
    hub.fault = lambda method, path: code if "/data" in path else 0
    with pytest.raises(error, match=words) as caught:
        open_shards(f"hf://datasets/{name}", cache=ShardCache(tmp_path))
    assert "\n" not in str(caught.value)


def test_without_its_library_the_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match=r'pip install "shardify\[remote\]"'):
        open_place("hf://datasets/me/data")


def test_what_its_library_cannot_explain_is_one_line(monkeypatch):
    import huggingface_hub

    def fail(*_, **__):
        raise RuntimeError("etag is empty due to uncovered problems")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(StorageError, match=r"me/data@v1/a: etag is empty due to uncovered problems; check"):
        hf.read_bytes(place_of("hf://datasets/me/data@v1/a"))
