#!/usr/bin/env python3
"""Loading clips: ours, stock webdataset and the limit, one after the other, round by round, on the same clips.

    python scripts/bench_loader.py [--clips 512] [--rounds 5] [--read-delay-ms 20]

The limit is one process per core that does nothing but decode the same sheets from memory. Ratios are taken within a
round and their median is printed: absolute rates say little on a machine that others use too.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import webdataset
from PIL import Image

from shardify import sheet
from trainer.loader import ClipLoader
from trainer.payload import decode_into, simplejpeg
from trainer.shards import ShardSet, open_shards

FRAMES, SIZE, QUALITY, BATCH, PER_SHARD = 16, 128, 90, 16, 128
CORES = len(os.sched_getaffinity(0))


@dataclasses.dataclass(frozen=True)
class SlowShards(ShardSet):
    """Storage that takes its time with every read."""

    delay_seconds: float = 0.0

    def read(self, number: int, check: bool = True) -> bytes:
        time.sleep(self.delay_seconds)
        return super().read(number, check)


def make_clip(rng: np.random.Generator) -> np.ndarray:
    """uint8 (T, S, S, 3): smooth shapes with sensor noise, about as large as real footage when compressed."""
    small = rng.integers(0, 256, (12, 12, 3), np.uint8)
    picture = np.asarray(Image.fromarray(small).resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float32)
    return (picture + rng.normal(0, 4, (FRAMES, SIZE, SIZE, 3))).clip(0, 255).astype(np.uint8)


def make_shards(folder: Path, clips: int, codec: str) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir()
    for first in range(0, clips, PER_SHARD):
        with webdataset.TarWriter(str(folder / f"train-{first // PER_SHARD:06d}.tar")) as writer:
            for i in range(first, min(clips, first + PER_SHARD)):
                clip = make_clip(rng)
                payload = (
                    {"jpg": sheet.encode_jpeg(sheet.to_sheet(clip), QUALITY)} if codec == "jpeg" else {"npy": clip}
                )
                writer.write({"__key__": f"clip-{i:06d}", "cls": i % 2, **payload})


def limit(shards: ShardSet) -> float:
    """Clips per second of processes that only decode, from memory into memory."""
    payloads = [shards.read(number) for number in range(len(shards.samples))]
    with multiprocessing.get_context("fork").Pool(CORES) as pool:
        parts = [payloads[i::CORES] for i in range(CORES)]
        pool.map(decode_all, [part[:4] for part in parts])  # start the processes
        start = time.perf_counter()
        pool.map(decode_all, parts, chunksize=1)
        return len(payloads) / (time.perf_counter() - start)


def decode_all(payloads: list[bytes]) -> None:
    torch.set_num_threads(1)
    out = torch.empty((4 * SIZE, 4 * SIZE, 3), dtype=torch.uint8)
    for payload in payloads:
        decode_into(payload, "jpeg", out)


def ours(loader: ClipLoader) -> float:
    start, clips = time.perf_counter(), 0
    for batch, _ in loader:
        clips += len(batch)
    return clips / (time.perf_counter() - start)


def stock(folder: Path) -> float:
    """webdataset as its documentation shows it, the sheets decoded by PIL in DataLoader workers."""
    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    dataset = webdataset.WebDataset(urls, shardshuffle=len(urls), seed=0).shuffle(500).decode("rgb8")
    loader = webdataset.WebLoader(dataset.to_tuple("jpg", "cls").map_tuple(cut), batch_size=BATCH, num_workers=CORES)
    batches = iter(loader)
    next(batches)  # the workers have started
    start, clips = time.perf_counter(), 0
    for batch, _ in batches:
        clips += len(batch)
    return clips / (time.perf_counter() - start)


def cut(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(sheet.from_sheet(picture, FRAMES)).permute(0, 3, 1, 2)


def copy_rate(clips: int) -> float:
    """Clips per second of copying decoded clips from memory to memory, the bound for raw shards."""
    source = torch.randint(0, 256, (64, FRAMES, SIZE, SIZE, 3), dtype=torch.uint8)
    start = time.perf_counter()
    for _ in range(clips // 64):
        source.clone()
    return clips / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--read-delay-ms", type=float, default=20.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for codec in ("jpeg", "raw"):
            make_shards(Path(name, codec), options.clips, codec)
        shards, raw = open_shards(Path(name, "jpeg"), FRAMES), open_shards(Path(name, "raw"))
        values = {field.name: getattr(shards, field.name) for field in dataclasses.fields(ShardSet)}
        slow = SlowShards(**values, delay_seconds=options.read_delay_ms / 1000)
        ways = {
            "limit: decoding alone, from memory": lambda: limit(shards),
            "ours": lambda: ours(ClipLoader(shards, batch_size=BATCH)),
            f"ours, {options.read_delay_ms:g} ms in every read": lambda: ours(ClipLoader(slow, batch_size=BATCH)),
            "webdataset + DataLoader": lambda: stock(Path(name, "jpeg")),
            "ours, raw shards": lambda: ours(ClipLoader(raw, batch_size=BATCH)),
            "copying decoded clips": lambda: copy_rate(options.clips),
        }
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, measure in ways.items():
                rates[way].append(measure())
    first = next(iter(rates))
    decoder = "torchvision" if simplejpeg is None else "simplejpeg"
    print(
        f"{options.clips} clips of {FRAMES}×{SIZE}×{SIZE}, {CORES} cores, {decoder}, medians of {options.rounds} rounds"
    )
    for way, found in rates.items():
        share = statistics.median(rate / bound for rate, bound in zip(found, rates[first], strict=True))
        print(f"{way:<36} {statistics.median(found):8.0f} clips/s {share:6.2f} of the limit")


if __name__ == "__main__":
    main()
