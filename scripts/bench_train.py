"""Training speed on this machine: synthetic, from shards, the bare backbone, and from videos decoded by a DataLoader.

    python scripts/bench_train.py                                   # the GPU: resnet50, 128 px; a CPU: resnet18, 32 px
    python scripts/bench_train.py --backbone resnet101 --size 224 --batch-size 8

Makes its own videos and shards in a temporary folder. All ways take turns, round by round; rates are medians of the
rounds, ratios medians of the rounds' ratios. Every way begins with steps that do not count, long enough that nothing
read ahead is left. "bare backbone" is the same, with a linear head, cross-entropy and AdamW on the same frames,
normalised beforehand, under the same autocast and memory format.
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
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from bench_decode import make_video
from torch import nn
from torch.utils.data import DataLoader, Dataset

from shardify.build.build import build
from shardify.build.request import BuildRequest
from shardify.format.settings import BuildSettings
from trainer.config.auto import resolve_by_device, resolve_by_model
from trainer.config.load import load_settings
from trainer.config.settings import Settings
from trainer.data.batches import Batch
from trainer.data.loader import AHEAD, ClipLoader
from trainer.devices.distributed import Group
from trainer.engine.assemble import compile_model, make_engine, make_model
from trainer.engine.engine import Engine
from trainer.models.backbones import make_backbone
from trainer.shards.shard_set import ShardSet, open_shards
from trainer.transforms.clips import normalise, to_float

CORES = len(os.sched_getaffinity(0))
DISTINCT = 8  # encoded videos that the names link to
LEAD = AHEAD + 2  # steps before the clock starts


@dataclasses.dataclass(frozen=True)
class Measured:
    clips_per_second: float
    data_wait: float | None = None  # share of the time
    memory_gb: float | None = None  # peak on the GPU


class VideoClips(Dataset):
    """What people do without shards: every epoch decodes every video, in DataLoader workers."""

    def __init__(self, paths: list[Path], frames: int, size: int) -> None:
        self.paths, self.frames, self.size = paths, frames, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int, int]:
        import av

        with av.open(self.paths[i]) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            wanted = set(np.linspace(0, stream.frames - 1, self.frames).round().astype(int).tolist())
            pictures = [
                frame.reformat(self.size, self.size, "rgb24").to_ndarray()
                for number, frame in enumerate(container.decode(stream))
                if number in wanted
            ]
        return torch.from_numpy(np.stack(pictures)), i % 2, i


def make_data(folder: Path, options: argparse.Namespace) -> tuple[list[Path], ShardSet]:
    """Videos of two classes, and shards of them: as many clips as the measured steps take."""
    originals = [folder / f"original{i}.mp4" for i in range(DISTINCT)]
    for path in originals:
        make_video(path, *options.video, "yuv420p", options.video_frames, 250)
    paths = []
    for i in range(options.batch_size * (options.steps + LEAD)):
        path = folder / "data" / "train" / ("real", "fake")[i % 2] / f"{i:06d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(originals[i % DISTINCT], path)
        paths.append(path)
    settings = BuildSettings(frames=options.frames, size=options.size, shard_size=64)
    build(BuildRequest(folder / "data", folder / "shards", settings, workers=CORES))
    return paths, open_shards(folder / "shards")


def make_trained(settings: Settings, shards: ShardSet, group: Group, compiled: bool) -> tuple[Engine, list[str]]:
    """The engine of a run on these shards, and what stopped the compiler, if anything did."""
    numbers = shards.numbers("train")
    model = make_model(settings, shards, numbers, None)
    engine = make_engine(resolve_by_model(settings, model), shards, numbers, model, group)
    loader = ClipLoader(shards, batch_size=settings.batch_size)
    notes = compile_model(engine, loader) if compiled else []
    engine.begin_epoch(0)
    return engine, notes


class Bench:
    """The ways to train, each a function that measures itself once."""

    def __init__(self, options: argparse.Namespace, paths: list[Path], shards: ShardSet, device: torch.device) -> None:
        self.options, self.shards, self.device = options, shards, device
        self.settings = resolve_by_device(
            load_settings(
                None,
                ("model.weights=none", f"model.backbone={options.backbone}", f"batch_size={options.batch_size}"),
            ),
            device,
        )
        group = Group(0, 1, device)
        self.engine, _ = make_trained(self.settings, shards, group, False)
        self.loader = ClipLoader(shards, batch_size=options.batch_size, device=device)
        self.cached = ClipLoader(shards, batch_size=options.batch_size, device=device, cache="device")
        self.one = next(iter(self.loader.batches(0)))  # on the device already
        for _ in self.cached.batches(0):
            pass
        videos = VideoClips(paths, options.frames, options.size)
        self.videos = DataLoader(
            videos, options.batch_size, shuffle=True, num_workers=CORES, persistent_workers=True,
            pin_memory=device.type == "cuda",
        )  # fmt: skip
        self.ways: dict[str, Callable[[], Measured]] = {
            "synthetic": lambda: self.train(self.engine, itertools.repeat(self.one)),
            "from shards": lambda: self.from_loader(self.loader, self.engine),
            "from shards, cached": lambda: self.from_loader(self.cached, self.engine),
            "videos in a DataLoader": lambda: self.train(self.engine, self.decoded()),
            "bare backbone": self.bare(compiled=False),
        }
        self.notes: list[str] = []
        if options.compile:
            compiled, self.notes = make_trained(self.settings, shards, group, True)
            self.ways["synthetic, compiled"] = lambda: self.train(compiled, itertools.repeat(self.one))
            self.ways["from shards, compiled"] = lambda: self.from_loader(self.loader, compiled)
            self.ways["bare backbone, compiled"] = self.bare(compiled=True)

    def train(self, engine: Engine, batches: Iterator[Batch]) -> Measured:
        sums = engine.new_sums()
        return self.clocked(lambda step: engine.train_step(next(batches), 0, step, sums))

    def from_loader(self, loader: ClipLoader, engine: Engine) -> Measured:
        waits = []

        def batches() -> Iterator[Batch]:
            for batch in loader.batches(0):
                waits.append(loader.wait_seconds)
                yield batch

        measured = self.train(engine, batches())
        seconds = self.options.steps * self.options.batch_size / measured.clips_per_second
        loader.close()
        return dataclasses.replace(measured, data_wait=(waits[-1] - waits[LEAD - 1]) / seconds)

    def decoded(self) -> Iterator[Batch]:
        for clips, _, numbers in self.videos:
            clips = clips.to(self.device, non_blocking=True)
            values = {"numbers": numbers.numpy(), "seeds": numbers.numpy(), "mask": np.ones(len(clips), bool)}
            yield Batch(clips.permute(0, 1, 4, 2, 3), **values)

    def bare(self, compiled: bool) -> Callable[[], Measured]:
        """A classifier of single frames on those of the synthetic batch."""
        backbone, features, _ = make_backbone(self.settings.model.backbone, "none", self.options.size)
        model = nn.Sequential(backbone, nn.Linear(features, 2))
        model.to(self.device, memory_format=torch.channels_last).train()
        if compiled:
            model.compile()
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        frames = normalise(to_float(self.one.clips)).flatten(0, 1)
        labels = torch.from_numpy(self.engine.labels[self.one.numbers]).to(self.device)
        labels = labels.repeat_interleave(self.options.frames)
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.engine.dtype == torch.float16)

        def step(_: int) -> None:
            with self.engine.autocast():
                loss = nn.functional.cross_entropy(model(frames), labels)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)

        return lambda: self.clocked(step)

    def clocked(self, step: Callable[[int], None]) -> Measured:
        """Clips per second of `steps` steps, after some that do not count."""
        for number in range(LEAD):
            step(number)
        self.wait_for_gpu()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        start = time.perf_counter()
        for number in range(self.options.steps):
            step(number)
        self.wait_for_gpu()
        seconds = time.perf_counter() - start
        memory = torch.cuda.max_memory_allocated(self.device) / 1e9 if self.device.type == "cuda" else None
        return Measured(self.options.steps * self.options.batch_size / seconds, memory_gb=memory)

    def wait_for_gpu(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def inference_ms(self) -> float:
        """Milliseconds per batch of scores, from uint8 clips on the device."""
        self.engine.model.eval()
        times = []
        for _ in range(2 + self.options.steps):
            start = time.perf_counter()
            with torch.inference_mode(), self.engine.autocast():
                self.engine.model(normalise(to_float(self.one.clips)))
            self.wait_for_gpu()
            times.append(1000 * (time.perf_counter() - start))
        self.engine.begin_epoch(0)
        return statistics.median(times[2:])


def report(bench: Bench, found: dict[str, list[Measured]], inference: list[float]) -> None:
    options = bench.options
    name = torch.cuda.get_device_name(bench.device) if bench.device.type == "cuda" else f"CPU, {CORES} cores"
    precision = str(bench.engine.dtype).removeprefix("torch.")
    print(
        f"\n{name}, {precision}, torch {torch.__version__}; {bench.settings.model.backbone}, clips of {options.frames} "
        f"frames of {options.size} px, batches of {options.batch_size}; videos {options.video[0]}×{options.video[1]}, "
        f"{options.video_frames} frames; medians of {options.rounds} rounds of {options.steps} steps"
    )
    print(f"{'':<26}{'clips/s':>10}{'images/s':>10}{'data wait':>11}{'peak GB':>9}")
    for way, values in found.items():
        rate = statistics.median(value.clips_per_second for value in values)
        waits = [value.data_wait for value in values if value.data_wait is not None]
        wait = f"{statistics.median(waits):.1%}" if waits else ""
        memory = f"{values[0].memory_gb:.1f}" if values[0].memory_gb else ""
        print(f"{way:<26}{rate:>10.1f}{rate * options.frames:>10.0f}{wait:>11}{memory:>9}".rstrip())
    print(f"inference: {statistics.median(inference):.1f} ms per batch of {options.batch_size} clips")
    pairs = [
        ("from shards", "synthetic"),
        ("from shards, cached", "synthetic"),
        ("from shards, compiled", "synthetic, compiled"),
        ("synthetic", "bare backbone"),
        ("synthetic, compiled", "bare backbone, compiled"),
        ("synthetic, compiled", "synthetic"),
        ("from shards", "videos in a DataLoader"),
    ]
    for above, below in pairs:
        if above in found and below in found:
            ratios = [a.clips_per_second / b.clips_per_second for a, b in zip(found[above], found[below], strict=True)]
            print(f"{above} ÷ {below}: {statistics.median(ratios):.3f}")
    for note in bench.notes:
        print(note)


def parse() -> argparse.Namespace:
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet50" if on_gpu else "resnet18")
    parser.add_argument("--size", type=int, default=128 if on_gpu else 32, help="pixels")
    parser.add_argument("--frames", type=int, default=16 if on_gpu else 8)
    parser.add_argument("--batch-size", type=int, default=16 if on_gpu else 4)
    parser.add_argument("--steps", type=int, default=30 if on_gpu else 4, help="per round and way")
    parser.add_argument("--rounds", type=int, default=5 if on_gpu else 3)
    parser.add_argument("--video", type=int, nargs=2, default=(640, 360) if on_gpu else (320, 180), metavar=("W", "H"))
    parser.add_argument("--video-frames", type=int, default=300 if on_gpu else 100)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=on_gpu)
    parser.add_argument("--cpu", action="store_true", help="even where there is a GPU")
    return parser.parse_args()


def main() -> None:
    options = parse()
    device = torch.device("cuda" if torch.cuda.is_available() and not options.cpu else "cpu")
    with tempfile.TemporaryDirectory() as name:
        paths, shards = make_data(Path(name), options)
        bench = Bench(options, paths, shards, device)
        found: dict[str, list[Measured]] = {way: [] for way in bench.ways}
        inference = []
        for number in range(options.rounds):
            for way, measure in bench.ways.items():
                found[way].append(measure())
                rate = found[way][-1].clips_per_second
                print(f"round {number + 1}/{options.rounds}: {way}, {rate:.1f} clips/s", flush=True)
            inference.append(bench.inference_ms())
        report(bench, found, inference)


if __name__ == "__main__":
    multiprocessing.set_start_method("forkserver")
    main()
