#!/usr/bin/env python3
"""Loading clips: ours, the other libraries that are installed, and the limit, by turns, on the same clips.

    python scripts/bench_loader.py [--clips 512] [--rounds 5] [--read-delay-ms 20] [--crc-rounds 40]

The limit is one process per core that does nothing but decode the same sheets from memory. Each side is measured over
a whole pass that follows another at once, so that what a side reads ahead counts once. Ratios are taken within a
round and their median is printed: absolute rates say little on a machine that others use too.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import multiprocessing
import os
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import torch
from loader_peers import Batches, open_peers
from PIL import Image

from shardify.format.members.frames import Frames, simplejpeg
from trainer.data.loader import ClipLoader
from trainer.shards import shard_set as shards_module
from trainer.shards.payloads import Payloads
from trainer.shards.shard_set import ShardSet, open_shards

FRAMES, SIZE, QUALITY, BATCH, PER_SHARD = 16, 128, 90, 16, 128
MAX_CLIPS = 9_999  # labels number the clips
CORES = len(os.sched_getaffinity(0))
SHEET = Frames(codec="jpeg", frames=FRAMES, size=SIZE, cell=SIZE, quality=QUALITY)


@dataclasses.dataclass(frozen=True)
class SlowShards(ShardSet):
    """Storage that takes its time with every read."""

    delay_seconds: float = 0.0

    def read(self, number: int, names: Collection[str] = (), checked: np.ndarray | None = None) -> Payloads:
        time.sleep(self.delay_seconds)
        return super().read(number, names, checked)


class Uncut(Frames):
    """Sheets that are not cut: what is left for the host where a GPU cuts them."""

    def unpack(self, stored: torch.Tensor, copy: Callable) -> torch.Tensor:
        return stored.view(len(stored), *self.shape)


def make_clip(rng: np.random.Generator) -> np.ndarray:
    """uint8 (T, S, S, 3): smooth shapes with sensor noise, about as large as real footage when compressed."""
    small = rng.integers(0, 256, (12, 12, 3), np.uint8)
    picture = np.asarray(Image.fromarray(small).resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float32)
    return (picture + rng.normal(0, 4, (FRAMES, SIZE, SIZE, 3))).clip(0, 255).astype(np.uint8)


def make_shards(folder: Path, clips: int, codec: str) -> None:
    import webdataset

    rng = np.random.default_rng(0)
    per_shard = min(PER_SHARD, max(1, clips // (2 * CORES)))  # webdataset's workers each need one
    folder.mkdir()
    for first in range(0, clips, per_shard):
        with webdataset.TarWriter(str(folder / f"train-{first // per_shard:06d}.tar")) as writer:
            for i in range(first, min(clips, first + per_shard)):
                clip = make_clip(rng)
                payload = {"jpg": SHEET.encode(clip)} if codec == "jpeg" else {"npy": clip}
                writer.write({"__key__": f"clip-{i:06d}", "cls": i, **payload})


def limit(sheets: list[bytes]) -> float:
    """Clips per second of processes that only decode, from memory into memory."""
    parts = [sheets[i::CORES] for i in range(CORES)]
    with multiprocessing.get_context("fork").Pool(CORES, initializer=_PARTS.extend, initargs=(parts,)) as pool:
        pool.map(decode_part, range(CORES), chunksize=1)  # warm
        start = time.perf_counter()
        pool.map(decode_part, range(CORES), chunksize=1)
        return len(sheets) / (time.perf_counter() - start)


_PARTS: list[list[bytes]] = []  # in the processes of `limit`, which inherit them: nothing is sent while time is taken


def decode_part(number: int) -> None:
    torch.set_num_threads(1)
    out = torch.empty((4 * SIZE, 4 * SIZE, 3), dtype=torch.uint8)
    for payload in _PARTS[number]:
        SHEET.decode_into(payload, out)


def steady_rate(one_pass: Callable[[], Batches]) -> float:
    """Clips per second of a pass that follows another."""
    for _ in one_pass():
        pass
    start, clips = time.perf_counter(), 0
    for batch, _ in one_pass():
        clips += len(batch)
    return clips / (time.perf_counter() - start)


def frames_of(one_pass: Callable[[], Batches]) -> dict[int, np.ndarray]:
    """Label → uint8 (T, S, S, 3)."""
    return {
        int(label): np.asarray(clip).copy()
        for clips, labels in one_pass()
        for clip, label in zip(clips, labels, strict=True)
    }


def check_pixels(ours: Callable[[], Batches], peers: dict[str, Callable[[], Batches]]) -> None:
    """That every side gives every clip, and how far its pixels are from ours."""
    expected = frames_of(lambda: ((clips.permute(0, 1, 3, 4, 2), labels) for clips, labels in ours()))
    for name, one_pass in peers.items():
        found = frames_of(one_pass)
        missing = len(expected.keys() - found.keys())
        worst = max(int(np.abs(np.subtract(expected[i], found[i], dtype=np.int16)).max()) for i in found)
        print(f"{name}: {missing} of {len(expected)} clips missing from a pass, largest difference {worst} levels")


def copy_rate(clips: int) -> float:
    """Clips per second of copying decoded clips from memory to memory, the bound for raw shards."""
    source = torch.randint(0, 256, (64, FRAMES, SIZE, SIZE, 3), dtype=torch.uint8)
    start = time.perf_counter()
    for _ in range(clips // 64):
        source.clone()
    return clips / (time.perf_counter() - start)


def boundary_ms(shards: ShardSet) -> float:
    """What the consumer waits for a pass's first batch, after the time that an evaluation takes."""
    loader = ClipLoader(shards, batch_size=BATCH)
    for _ in loader:
        pass
    time.sleep(0.3)
    waited = loader.wait_seconds
    next(iter(loader))
    return 1000 * (loader.wait_seconds - waited)


def crc_cost(shards: ShardSet, rounds: int) -> tuple[float, float]:
    """Shares of an epoch that checking CRCs takes: of its time, and of the CPU time of decoding, by itself."""
    samples = shards.samples.copy()
    sheets = [shards.read(number)[0] for number in range(len(samples))]
    samples["frames_crc"] = [zlib.crc32(payload) for payload in sheets]
    with_crc = dataclasses.replace(shards, samples=samples, has_crc=True)
    shares = []
    for i in range(rounds):
        sides = [with_crc, shards][:: 1 if i % 2 else -1]
        seconds = {side.has_crc: first_pass_seconds(side) for side in sides}
        shares.append(seconds[True] / seconds[False] - 1)
    costs = []
    out = torch.empty((4 * SIZE, 4 * SIZE, 3), dtype=torch.uint8)
    for payload in itertools.islice(itertools.cycle(sheets), 20 * rounds):
        start = time.thread_time()
        shards_module.crc32(payload)
        middle = time.thread_time()
        SHEET.decode_into(payload, out)
        costs.append((middle - start) / (time.thread_time() - middle))
    return statistics.median(shares), statistics.median(costs)


def first_pass_seconds(shards: ShardSet) -> float:
    loader = ClipLoader(shards, batch_size=BATCH)
    start = time.perf_counter()
    for _ in loader:
        pass
    seconds = time.perf_counter() - start
    loader.close()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--read-delay-ms", type=float, default=20.0)
    parser.add_argument("--crc-rounds", type=int, default=40)
    options = parser.parse_args()
    if options.clips > MAX_CLIPS:
        parser.error(f"--clips is {options.clips}; at most {MAX_CLIPS} can be told apart")
    with tempfile.TemporaryDirectory() as name:
        for codec in ("jpeg", "raw"):
            make_shards(Path(name, codec), options.clips, codec)
        measure(Path(name), options)


def batches_of(loader: ClipLoader) -> Callable[[], Batches]:
    """Its next pass as the trainer takes it: channels last in memory."""
    epochs = itertools.count()
    return lambda: ((batch.clips, batch.numbers) for batch in loader.batches(next(epochs)))


def measure(folder: Path, options: argparse.Namespace) -> None:
    shards, raw = open_shards(folder / "jpeg", FRAMES), open_shards(folder / "raw")
    sheets = [shards.read(number)[0] for number in range(options.clips)]
    values = {field.name: getattr(shards, field.name) for field in dataclasses.fields(ShardSet)}
    slow = SlowShards(**values, delay_seconds=options.read_delay_ms / 1000)
    ours, ours_slow, ours_raw = (ClipLoader(each, batch_size=BATCH) for each in (shards, slow, raw))
    whole = dataclasses.replace(shards, members={"frames": Uncut(**vars(shards.first_member))})
    uncut = ClipLoader(whole, batch_size=BATCH)
    peers = open_peers(folder / "jpeg", sheets, FRAMES, BATCH)
    check_pixels(ours.__iter__, peers)
    sides = {
        "ours": batches_of(ours),
        "ours, contiguous for other tools": ours.__iter__,
        "ours, sheets cut on the device": batches_of(uncut),
        f"ours, {options.read_delay_ms:g} ms in every read": batches_of(ours_slow),
        **peers,
        "ours, raw shards": batches_of(ours_raw),
    }
    rates: dict[str, list[float]] = {"limit: decoding alone, from memory": []} | {side: [] for side in sides}
    copies = []
    for _ in range(options.rounds):
        rates["limit: decoding alone, from memory"].append(limit(sheets))
        copies.append(copy_rate(options.clips))
        for side, one_pass in sides.items():
            rates[side].append(steady_rate(one_pass))
    for loader in (ours, uncut, ours_slow, ours_raw):
        loader.close()
    decoder = "Pillow" if simplejpeg is None else "simplejpeg"
    print(
        f"{options.clips} clips of {FRAMES}×{SIZE}×{SIZE}, {CORES} cores, {decoder}, medians of {options.rounds} rounds"
    )
    bounds = rates["limit: decoding alone, from memory"]
    for side, found in rates.items():
        share = statistics.median(rate / bound for rate, bound in zip(found, bounds, strict=True))
        print(f"{side:<36} {statistics.median(found):8.0f} clips/s {share:6.2f} of the limit")
    share = statistics.median(rate / copy for rate, copy in zip(rates["ours, raw shards"], copies, strict=True))
    print(f"{'copying decoded clips':<36} {statistics.median(copies):8.0f} clips/s; raw shards: {share:.2f} of it")
    waits = [boundary_ms(shards) for _ in range(options.rounds)]
    print(f"first batch of the next pass: {statistics.median(waits):.1f} ms of waiting")
    epoch, alone = crc_cost(shards, options.crc_rounds)
    print(
        f"checking CRCs ({shards_module.crc32.__module__}): {epoch:+.2%} of a first epoch's time, median of "
        f"{options.crc_rounds} pairs; {alone:.2%} of the CPU time of decoding"
    )


if __name__ == "__main__":
    main()
