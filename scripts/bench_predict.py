"""Milliseconds that a run's best model takes for a batch of clips: python scripts/bench_predict.py RUN [--batch-size N]

Clips of noise as they come from a shard, uint8 in the machine's memory, through `load_model(RUN).predict`: the way to
the GPU, normalisation, the network, and scores as they are printed. Nothing is decoded. The median of 30 batches.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from trainer import load_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--batch-size", type=int, help="[default: clips at once in the run's training]")
    parser.add_argument("--batches", type=int, default=30)
    options = parser.parse_args()
    model = load_model(options.run)
    frames, size = model.saved.stored_frames, model.saved.stored_size
    settings = model.saved.settings
    batch_size = options.batch_size or max(1, settings.batch_size // settings.accumulate)
    shape = (batch_size, frames, size, size, 3)
    clips = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    times = []
    for _ in range(3 + options.batches):  # the first ones pick kernels
        start = time.perf_counter()
        model.predict(clips)  # ends with scores on the CPU, so the GPU has finished
        times.append(1000 * (time.perf_counter() - start))
    device = torch.cuda.get_device_name() if model.device.type == "cuda" else "CPU"
    print(
        f"{device}, {settings.model.backbone}: predict takes {statistics.median(times[3:]):.1f} ms for a "
        f"batch of {batch_size} clips of {frames} frames, {size} px"
    )


if __name__ == "__main__":
    main()
