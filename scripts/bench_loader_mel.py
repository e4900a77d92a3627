#!/usr/bin/env python3
"""Loading clips with their spectrograms beside loading their frames alone, by turns, on one build with --audio.

    python scripts/bench_loader_mel.py SHARDS [--rounds 9]

Each side is a whole pass that follows another at once. Ratios are taken within a round, and their median is printed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from trainer.data.loader import ClipLoader
from trainer.shards.shard_set import open_shards


def seconds_of(loader: ClipLoader, epoch: int) -> tuple[float, float]:
    """The seconds and the CPU seconds of a pass."""
    start, cpu = time.perf_counter(), time.process_time()
    for _ in loader.batches(epoch):
        pass
    return time.perf_counter() - start, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shards", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    shards = open_shards(options.shards)
    sides = [ClipLoader(shards, members=names) for names in (["frames"], ["frames", "mel"])]
    for loader in sides:
        seconds_of(loader, 0)
    ratios = []
    for epoch in range(1, 1 + options.rounds):
        order = sides if epoch % 2 else sides[::-1]
        found = {loader: seconds_of(loader, epoch) for loader in order}
        ratios.append([frames / both for frames, both in zip(found[sides[0]], found[sides[1]], strict=True)])
    for loader in sides:
        loader.close()
    rate, cpu = (statistics.median(column) for column in zip(*ratios, strict=True))
    print(
        f"{len(sides[0].numbers)} clips of {shards.frames} frames, {shards.size} px, mel {shards.members['mel'].shape}"
    )
    print(f"with spectrograms {rate:.3f} of the rate with frames alone ({cpu:.3f} by CPU time)")


if __name__ == "__main__":
    main()
