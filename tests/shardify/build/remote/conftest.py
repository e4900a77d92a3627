"""Videos, the folder that a build of them on this machine makes, and a bucket whose network can fail."""

from __future__ import annotations

import pytest
from buckets import Proxy, moto_endpoint, use_endpoint
from builds import make_data, tree_of_build


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    folder = make_data(tmp_path_factory.mktemp("made") / "videos", 12)
    (folder / "fake" / "twin.mp4").write_bytes((folder / "real" / "v01.mp4").read_bytes())
    (folder / "notes.txt").write_text("of the recording")
    return folder


@pytest.fixture(scope="session")
def reference(data, tmp_path_factory):
    return tree_of_build(data, tmp_path_factory.mktemp("reference") / "shards")


@pytest.fixture
def proxy(monkeypatch):
    with Proxy(moto_endpoint()) as proxy:
        use_endpoint(monkeypatch, proxy.endpoint)
        yield proxy
