"""`info` and `verify` of shards in a bucket, as a user runs them."""

import json

import pytest
from buckets import Proxy, make_bucket, moto_endpoint, put_folder, use_endpoint
from click.testing import CliRunner

from shardify.cli.main import main
from shardify.storage import attempts, remote


@pytest.fixture
def there(shards_folder, monkeypatch):
    use_endpoint(monkeypatch, moto_endpoint())
    return put_folder(shards_folder, make_bucket(moto_endpoint()) / "shards")


def run(*arguments):
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert "Traceback" not in done.output
    return done


def test_info_says_what_it_says_of_the_folder(shards_folder, there):
    here = json.loads(run("info", shards_folder, "--json").stdout)
    assert json.loads(run("info", there, "--json").stdout) == here | {"folder": str(there)}
    assert run("info", there).stdout.startswith(f"{there}: 36 clips")


def test_verify_reads_each_byte_once_and_finds_damage(there, shards_folder, monkeypatch):
    with Proxy(moto_endpoint()) as proxy:
        use_endpoint(monkeypatch, proxy.endpoint)
        monkeypatch.setattr(attempts, "BOUNDS", attempts.Bounds(tries=5))  # makes a client of its own
        done = run("verify", there)
        assert (done.exit_code, done.stdout) == (0, f"{there}: sound\n")
        assert len(proxy.gets(".tar")) == len({path for path, _ in proxy.gets(".tar")}) == 5
    use_endpoint(monkeypatch, moto_endpoint())
    monkeypatch.setattr(attempts, "BOUNDS", attempts.Bounds(tries=4))
    content = bytearray((shards_folder / "train-000001.tar").read_bytes())
    content[2000] ^= 1
    remote.write_bytes(there / "train-000001.tar", bytes(content))
    remote.delete(there / "val-000000.tar")
    remote.delete(there / "README.md")
    remote.write_bytes(there / "train-000009.tar", b"")
    done = run("verify", there)
    assert done.exit_code == 1
    for line in (
        "train-000001.tar: clip ",
        "val-000000.tar: is missing",
        "README.md: is not",
        "train-000009.tar: does not",
    ):
        assert line in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["info", "s3://no-such-bucket/x"], 1, "s3://no-such-bucket/x: has no index.json, or is not there"),
        (["info", "s3a://bucket/x"], 2, "s3a://: such addresses are not known"),
        (["verify", "s3://bucket/x", "--repair", "."], 2, "--repair mends folders of this machine"),
        (
            ["preview", "s3://bucket/x"],
            2,
            "s3://bucket/x: lies in object storage, where 'SHARDS' of this",
        ),
        (["faces", "s3://bucket/x", "boxes.csv"], 2, "s3://bucket/x: lies in object storage, where 'DATA' of this"),
        (["build", "x", "y", "--boxes", "s3://bucket/b.csv"], 2, "object storage, where '--boxes' of this command"),
    ],
)
def test_what_cannot_be_is_one_line(there, arguments, code, words):
    done = run(*arguments)
    assert done.exit_code == code and words in done.stderr and len(done.stderr.splitlines()) == 1
