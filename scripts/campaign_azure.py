"""Build from and into an Azure container of an emulator, describe it, check it, train on it, and compare.

    python scripts/campaign_azure.py

The server is Azurite (npm install -g azurite), started here on loopback; without it nothing is done. Each line says
what was compared. Exit code 1 if anything is wrong.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import hashlib
import hmac
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import click

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))
from builds import make_videos, tree, video_names
from two_nodes import free_port

from shardify.errors import ConflictError
from shardify.storage import remote
from shardify.storage.address import Address, place_of
from trainer.data.loader import ClipLoader
from trainer.shards.shard_cache import ShardCache
from trainer.shards.shard_set import open_shards

# the emulator's own: https://learn.microsoft.com/azure/storage/common/storage-connect-azurite
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
BUILD = ("--frames", "4", "--size", "32", "--shard-size", "8", "--workers", "1")


@contextlib.contextmanager
def azurite(folder: Path) -> Iterator[None]:
    """The emulator, to which this process and those that it starts go with keys."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
    command = ["azurite-blob", "--silent", "--disableTelemetry", f"--location={folder}", f"--blobPort={port}"]
    with open(folder / "log", "w") as log, subprocess.Popen([*command, "--skipApiVersionCheck"], stdout=log) as server:
        try:
            for _ in range(120):
                with contextlib.suppress(OSError):
                    make_container(endpoint, "box")
                    break
                time.sleep(0.5)
            else:
                raise click.ClickException(
                    f"no container could be made within a minute; {(folder / 'log').read_text()}"
                )
            os.environ |= {
                "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
                "AZURE_STORAGE_ACCOUNT_KEY": KEY,
                "AZURE_STORAGE_ENDPOINT": endpoint,
            }
            yield
        finally:
            server.kill()


def make_container(endpoint: str, name: str) -> None:
    """Signed by the rules of https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key."""
    headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    named = "".join(f"{key}:{value}\n" for key, value in headers.items())
    text = "PUT" + 12 * "\n" + f"{named}/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    signature = base64.b64encode(hmac.digest(base64.b64decode(KEY), text.encode(), hashlib.sha256)).decode()
    headers |= {"Authorization": f"SharedKey {ACCOUNT}:{signature}", "Content-Length": "0"}
    request = urllib.request.Request(f"{endpoint}/{name}?restype=container", headers=headers, method="PUT")
    urllib.request.urlopen(request, timeout=5).close()


def shardify(*arguments: object, code: int = 0) -> None:
    done = subprocess.run([sys.executable, "-m", "shardify", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != code:
        raise AssertionError(f"{arguments} ends with {done.returncode}: {done.stderr}")


def objects(folder: Address) -> dict[str, bytes]:
    return {file.name: remote.read_bytes(folder / file.name) for file in remote.list_files(folder)}


def compare(work: Path) -> Iterator[str]:
    videos, shards, data = place_of("az://box/videos"), place_of("az://box/shards"), work / "videos"
    make_videos(data, video_names(24))
    for path in data.rglob("*.mp4"):
        remote.upload(videos / path.relative_to(data).as_posix(), path)
    shardify("build", data, work / "here", *BUILD)
    shardify("build", videos, work / "from", *BUILD)
    assert tree(work / "from") == tree(work / "here"), "a build from the container differs"
    yield "a build from the container: equal"
    for there in ("first", "again"):
        shardify("build", videos, shards, *BUILD)
        assert objects(shards) == {path.name: path.read_bytes() for path in (work / "here").iterdir()}, there
    yield "a build into the container, and again: equal"
    shardify("info", shards)
    shardify("verify", shards)
    held = remote.create(shards / ".lock", b"{}")
    shardify("build", videos, shards, *BUILD, code=4)
    for action in (
        lambda: remote.create(shards / ".lock", b"2"),
        lambda: remote.replace(shards / "index.json", b"", held),
    ):
        with contextlib.suppress(ConflictError):
            action()
            raise AssertionError("a condition of a write does not hold anything up")
    shardify("build", videos, shards, *BUILD, "--take-over")
    yield "info, verify, a held lock, one that is taken over, writes with conditions: as on s3"
    here, there = (
        ClipLoader(place, batch_size=4) for place in (work / "here", open_shards(shards, cache=ShardCache(work)))
    )
    with contextlib.closing(here), contextlib.closing(there):
        for epoch in range(3):
            for one, other in zip(here.batches(epoch), there.batches(epoch), strict=True):
                assert (one.numbers == other.numbers).all() and one.clips.equal(other.clips)
    yield "three epochs of batches: equal"


@click.command()
def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started here ends, too
    if shutil.which("azurite-blob") is None:
        click.echo("skipped: azurite-blob is not on the PATH; npm install -g azurite")
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "server").mkdir()
        with azurite(work / "server"):
            try:
                for line in compare(work):
                    click.echo(line)
            except AssertionError as error:
                click.echo(f"FAILED: {error}")
                sys.exit(1)


if __name__ == "__main__":
    main()
