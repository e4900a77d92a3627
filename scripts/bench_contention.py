"""A CPU's loading, training and scoring speed on idle cores and beside busy processes, by how OpenMP's threads wait.

    python scripts/bench_contention.py                        # the demo's model, clips and batches
    python scripts/bench_contention.py --busy 1 --rounds 9 --spins 300 3000 30000

Every side is a process of its own, since libgomp reads its environment once; sides take turns, rates are medians of
the rounds. "ours" is what `python -m trainer` chooses, "libgomp's own" what it does when nobody chooses. Shares are of
the idle rate of libgomp's own. Wanted are 0.95 of it on idle cores, and beside B busy processes what the machine gives
each process if it is fair, 1 / (B + 1). Every way begins with steps that do not count.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from make_demo_videos import make_all

from trainer.devices.threads import bound_spinning

CORES = len(os.sched_getaffinity(0))
CHOICES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
LEAD = 6  # steps before the clock starts
WAYS = ("load", "train", "score")


def make_shards(folder: Path) -> Path:
    """A small piece of the demo's data."""
    from shardify.build.build import build
    from shardify.build.request import BuildRequest
    from shardify.format.settings import BuildSettings

    make_all(folder / "data", {"train": 192, "val": 48, "test": 0}, seed=0, workers=CORES)
    build(BuildRequest(folder / "data", folder / "shards", BuildSettings(size=32), workers=CORES))
    return folder / "shards"


def measure(shards: Path, config: Path, seconds: float) -> None:
    """Print the rates of this process as JSON: clips per second by way."""
    bound_spinning()  # has no say where a side has chosen
    import torch

    from trainer.config.auto import resolve_by_device, resolve_by_model
    from trainer.config.load import load_settings
    from trainer.data.loader import ClipLoader
    from trainer.devices.distributed import Group
    from trainer.engine.assemble import make_engine, make_model
    from trainer.shards.shard_set import open_shards
    from trainer.transforms.clips import normalise, to_float

    group, found = Group(0, 1, torch.device("cpu")), open_shards(shards)
    settings = resolve_by_device(load_settings(config, ("model.weights=none",)), group.device)
    numbers = found.numbers("train")
    model = make_model(settings, found, numbers, None)
    engine = make_engine(resolve_by_model(settings, model), found, numbers, model, group)
    sums = engine.new_sums()

    def load(batch) -> None:
        pass

    def train(batch) -> None:
        engine.train_step(batch, 0, 0, sums)

    @torch.inference_mode()
    def score(batch) -> None:
        model(normalise(to_float(batch.clips)))

    rates = {}
    for way, step in zip(WAYS, (load, train, score), strict=True):
        engine.begin_epoch(0)
        if way == "score":
            model.eval()
        loader = ClipLoader(found, batch_size=settings.batch_size)
        batches = itertools.chain.from_iterable(map(loader.batches, itertools.count()))
        for batch in itertools.islice(batches, LEAD):
            step(batch)
        clips, start = 0, time.perf_counter()
        while (passed := time.perf_counter() - start) < seconds:
            batch = next(batches)
            step(batch)
            clips += len(batch.mask)
        rates[way] = clips / passed
        loader.close()
    print(json.dumps(rates))


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Processes that use a core each, if they get it."""
    processes = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def rates_of(choice: dict[str, str], beside: int, shards: Path, options: argparse.Namespace) -> dict[str, float]:
    environment = {name: value for name, value in os.environ.items() if name not in CHOICES} | choice
    arguments = ["--measure", str(shards), "--config", str(options.config), "--seconds", str(options.seconds)]
    with busy(beside):
        command = [sys.executable, __file__, *arguments]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def report(found: dict[tuple, list[dict[str, float]]], sides: dict[str, dict], options: argparse.Namespace) -> None:
    rounds = f"medians of {options.rounds} rounds of {options.seconds:g} s"
    print(f"\n{CORES} cores, clips/s (share of libgomp's own idle rate); {rounds}")
    columns = [f"{way}, {where}" for way in WAYS for where in ("idle", f"beside {options.busy}")]
    print(f"{'':<18}" + "".join(f"{column:>22}" for column in columns))
    for side in sides:
        cells = []
        for way in WAYS:
            base = statistics.median(rates[way] for rates in found["libgomp's own", 0])
            for beside in (0, options.busy):
                rate = statistics.median(rates[way] for rates in found[side, beside])
                cells.append(f"{rate:.1f} ({rate / base:.2f})")
        print(f"{side:<18}" + "".join(f"{cell:>22}" for cell in cells))
    print(f"wanted of ours: 0.95 idle, {1 / (options.busy + 1):.2f} beside {options.busy}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path(__file__).parents[1] / "configs" / "demo.yaml")
    parser.add_argument("--busy", type=int, default=2, help="processes beside it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="per way and round")
    parser.add_argument("--spins", nargs="*", default=[], help="more sides: values of GOMP_SPINCOUNT")
    parser.add_argument("--measure", type=Path, metavar="SHARDS", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.measure:
        measure(options.measure, options.config, options.seconds)
        return
    sides = {
        "libgomp's own": {"GOMP_SPINCOUNT": "300000"},
        "ours": {},
        "passive": {"OMP_WAIT_POLICY": "passive"},
        "one thread": {"OMP_NUM_THREADS": "1"},
    } | {f"{spins} spins": {"GOMP_SPINCOUNT": spins} for spins in options.spins}
    found: dict[tuple, list[dict[str, float]]] = {(side, n): [] for side in sides for n in (0, options.busy)}
    with tempfile.TemporaryDirectory() as name:
        shards = make_shards(Path(name))
        for number in range(options.rounds):
            for (side, beside), rates in found.items():
                print(f"round {number + 1}/{options.rounds}: {side}, beside {beside}", file=sys.stderr, flush=True)
                rates.append(rates_of(sides[side], beside, shards, options))
    report(found, sides, options)


if __name__ == "__main__":
    main()
