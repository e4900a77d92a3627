"""Objects in a bucket of a real server, also behind a network that fails, and what users are told."""

import functools
import hashlib
import os
import signal
import sys
import threading
import time
import urllib.request
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from buckets import KEYS, Proxy, make_bucket, moto_endpoint, use_endpoint

from shardify.errors import ConflictError, MissingObjectError, StorageError, UsageError
from shardify.storage import attempts, remote
from shardify.storage.address import place_of
from shardify.storage.base import RemoteFile, SequentialReader

QUICK = attempts.Bounds(connect=1, request=1.5, tries=2, total=4)
ODD = ["a b", "a#b", "a%20b", "q?r", "sub/ü", "~t+*[x]"]


@pytest.fixture
def bucket(monkeypatch):
    use_endpoint(monkeypatch, moto_endpoint())
    return make_bucket(moto_endpoint())


@pytest.fixture
def proxy(monkeypatch):
    monkeypatch.setattr(attempts, "BOUNDS", QUICK)
    with Proxy(moto_endpoint()) as proxy:
        use_endpoint(monkeypatch, proxy.endpoint)
        yield proxy


def test_what_is_written_is_listed_and_read_under_every_name(bucket):
    folder = bucket / "some"
    for name in ODD:
        remote.write_bytes(folder / name, name.encode())
    remote.write_bytes(bucket / "something", b"of another folder")
    found = remote.list_files(folder)
    assert [file.name for file in found] == sorted(ODD)
    for file in found:
        assert file == RemoteFile(file.name, len(file.name.encode()), remote.head(folder / file.name).etag)
        assert remote.read_bytes(folder / file.name) == file.name.encode()
    remote.delete(folder / "a b")
    remote.delete(folder / "a b")
    with pytest.raises(MissingObjectError, match=r"s3://.*/some/a b: is not there; check the address"):
        remote.read_bytes(folder / "a b")


def test_markers_of_folders_are_no_files(bucket):
    """As consoles make them: empty objects whose names end in a slash."""
    for name in ("some/", "some/real/", "some/real/deep/"):
        url = f"{moto_endpoint()}/{bucket.bucket}/{name}"
        urllib.request.urlopen(urllib.request.Request(url, method="PUT")).close()
    for name in ("some/real/deep/a.mp4", "some/empty", "some/some"):
        remote.write_bytes(bucket / name, b"")
    assert [file.name for file in remote.list_files(bucket / "some")] == ["empty", "real/deep/a.mp4", "some"]
    assert [file.name for file in remote.list_files(bucket)] == ["some/empty", "some/real/deep/a.mp4", "some/some"]


def test_large_files_go_both_ways_in_parts(bucket, tmp_path, monkeypatch):
    content = bytes(range(256)) * 50_000
    monkeypatch.setattr(remote, "PART", 6 << 20)
    (tmp_path / "a").write_bytes(content)
    remote.upload(bucket / "a", tmp_path / "a")
    remote.download(bucket / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == content
    with remote.open_reader(bucket / "a") as file:
        reader = SequentialReader(file, 6 << 20)
        assert reader.size == len(content)
        assert (reader.read(5, 3), reader.read(9_000_000, 400)) == (content[5:8], content[9_000_000:9_000_400])
        assert reader.read(len(content) - 2, 9) == content[-2:]
        assert reader.sha256() == hashlib.sha256(content).hexdigest()
    with pytest.raises(ConflictError, match="written by somebody else"):
        remote.read_range(bucket / "a", 0, 3, etag='"another"')


def test_writes_on_condition(bucket):
    etag = remote.create(bucket / "lock", b"mine")
    with pytest.raises(ConflictError):
        remote.create(bucket / "lock", b"yours")
    assert remote.create(bucket / "lock", b"mine") == etag  # whose first answer was lost
    remote.replace(bucket / "lock", b"changed", etag)
    with pytest.raises(ConflictError):
        remote.replace(bucket / "lock", b"again", etag)
    assert remote.read_bytes(bucket / "lock") == b"changed"


@pytest.mark.parametrize("fault", ["503", "429", "reset", "half", "short", "hang"])
def test_a_failure_that_passes_costs_another_try(proxy, fault):
    bucket = make_bucket(moto_endpoint())
    remote.write_bytes(bucket / "a", b"0123456789")
    first = len(proxy.requests) + 1
    proxy.fault = lambda method, path, number: fault if number == first else ""
    assert remote.read_range(bucket / "a", 2, 4) == b"2345"
    assert len(proxy.requests) == first + 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("503", "failed 2 times in .*: HTTP 503; look at the network"),
        ("reset", "failed 2 times in .*: the connection broke off"),
        ("half", "failed 2 times in .*: the connection broke off"),
        ("short", "failed 2 times in .*: 2 of the 4 bytes from 2 on"),
        ("hang", "failed 2 times in .*: no answer in time"),
        ("404", "is not there"),
        ("403", "access is refused; set AWS_ACCESS_KEY_ID"),
        ("400", "HTTP 400; check the address"),
    ],
)
def test_a_failure_that_stays_is_one_line_in_time(proxy, fault, words):
    bucket = make_bucket(moto_endpoint())
    remote.write_bytes(bucket / "a", b"0123456789")
    proxy.fault = lambda method, path, number: fault
    start = time.monotonic()
    with pytest.raises(StorageError, match=words) as caught:
        remote.read_range(bucket / "a", 2, 4)
    assert time.monotonic() - start < QUICK.total + 5
    line = str(caught.value)
    assert line.startswith(f"{bucket}/a: ") and "\n" not in line
    assert "http://" not in line and KEYS["AWS_SECRET_ACCESS_KEY"] not in line


def test_a_create_whose_answer_is_lost_is_found(proxy):
    bucket = make_bucket(moto_endpoint())
    proxy.fault = lambda method, path, number: "lost" if (method, number) == ("PUT", 1) else ""
    assert remote.create(bucket / "lock", b"mine")
    assert remote.read_bytes(bucket / "lock") == b"mine"


def test_nobody_listens_and_no_such_host(monkeypatch):
    monkeypatch.setattr(attempts, "BOUNDS", attempts.Bounds(connect=0.5, request=0.5, tries=1, total=3))
    with pytest.raises(StorageError, match="no connection"):
        remote.read_bytes(place_of("http://127.0.0.1:9/a"))
    with pytest.raises(UsageError, match="cannot be listed"):
        remote.list_files(place_of("http://127.0.0.1:9/a"))


def test_a_web_server_is_read_whole_and_in_parts_where_it_gives_them(tmp_path):
    (tmp_path / "a").write_bytes(b"0123")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        address = place_of(f"http://127.0.0.1:{server.server_port}/a")
        assert remote.read_bytes(address) == b"0123" and remote.head(address).size == 4
        with pytest.raises(StorageError, match="the server gives no parts of files; copy the folder"):
            remote.read_range(address, 1, 2)
        server.shutdown()


def test_a_public_bucket_takes_no_keys(bucket, monkeypatch):
    public = {"x-amz-acl": "public-read", "Content-Type": "application/octet-stream"}
    url = f"{moto_endpoint()}/{bucket.bucket}/a"
    urllib.request.urlopen(urllib.request.Request(url, b"0123", public, method="PUT")).close()
    remote.write_bytes(bucket / "b", b"0123")
    for name in KEYS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setattr(attempts, "BOUNDS", attempts.Bounds(tries=1))  # makes a client of its own
    assert remote.read_range(bucket / "a", 1, 2) == b"12"
    with pytest.raises(StorageError, match="access is refused"):
        remote.read_bytes(bucket / "b")


@pytest.mark.parametrize(("profile", "words"), [("none", r"profile \(none\)"), ("broken", "custom-process")])
def test_a_profile_that_gives_no_keys_is_one_line(tmp_path, monkeypatch, profile, words):
    (tmp_path / "config").write_text("[profile broken]\ncredential_process = /bin/false\n")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", profile)
    with pytest.raises(StorageError, match=f"s3://without-keys: no keys are found .*{words}"):
        remote.read_bytes(place_of("s3://without-keys/a"))


def test_a_key_with_an_empty_part_is_named(bucket):
    request = urllib.request.Request(f"{moto_endpoint()}/{bucket.bucket}/data//a", b"0123", method="PUT")
    urllib.request.urlopen(request).close()
    with pytest.raises(StorageError, match=r"data//a.*rename that object"):
        remote.list_files(bucket / "data")


def test_ctrl_c_does_not_wait_for_an_answer(proxy, monkeypatch):
    monkeypatch.setattr(attempts, "BOUNDS", attempts.Bounds(total=119))

    def hang(*_):
        os.kill(os.getpid(), signal.SIGINT)
        return "hang"

    proxy.fault = hang
    with pytest.raises(KeyboardInterrupt):
        remote.read_bytes(place_of("s3://bucket/a"))
    assert "request" in [thread.name for thread in threading.enumerate()]  # which still waits


def test_a_fork_says_that_it_cannot_instead_of_waiting_for_ever(bucket):
    remote.write_bytes(bucket / "a", b"0123")
    if (child := os.fork()) == 0:
        signal.alarm(30)
        try:
            remote.read_bytes(bucket / "a")
        except StorageError as error:
            os._exit("in a fork" in str(error))
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_without_obstore_the_line_says_what_to_install(bucket, monkeypatch):
    monkeypatch.setattr(attempts, "BOUNDS", attempts.Bounds(tries=2))
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(UsageError, match=r'is read with obstore.*pip install "shardify\[remote\]"'):
        remote.read_bytes(bucket / "a")
