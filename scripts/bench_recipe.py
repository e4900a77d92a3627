"""Leave one kind of fake out of training: what each element of the recipe for deepfakes does for it.

    python scripts/bench_recipe.py WORK_DIR [--seeds 2] [--workers 2]

A trial is a run of the tiny model on procedural fakes (recipe_faces.py) of three kinds; then the fourth, which it has
not seen, is judged on other people. Prints the AUC of the unseen kind for each way to train, its difference to `plain`,
and AUCs over all kinds on clips that are degraded. Intervals: 95%, the test's people resampled, the same in all trials;
they do not tell how seeds differ, which is why each trial's AUC stands in WORK_DIR/trials.csv. Trials that are there
are not run again.
"""

from __future__ import annotations

import csv
import io
import itertools
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from recipe_faces import FRAMES, KINDS, PIXELS, make_videos

from shardify.build.build import build
from shardify.build.request import BuildRequest
from shardify.format.settings import BuildSettings
from shardify.storage.local import write_atomically
from trainer.config.load import load_settings
from trainer.devices.distributed import Group
from trainer.engine.assemble import make_engine, make_loaders, make_model
from trainer.evaluation.metrics import softmax
from trainer.evaluation.predictions import source_rows
from trainer.evaluation.weighted import binary_figures
from trainer.shards.shard_set import open_shards
from trainer.tools.robustness import DEGRADATIONS, degraded

PEOPLE = {"train": 120, "test": 60}
UNSEEN = KINDS[1:]  # in turn; the first kind is always seen
EPOCHS = 8
PLAIN = (
    f"epochs={EPOCHS}", "batch_size=32", "amp=float32", "optimizer.lr=4e-3", "scheduler.name=cosine",
    "data.cache=ram", "data.workers=1", "data.balanced=true", "data.frames=1",
    "model.backbone=tiny", "model.weights=none", "model.batch_norm=train", "model.differences=false",
    "model.lstm_hidden=0", "model.attention_heads=0",
    "augment.crop=1", "augment.brightness=0", "augment.contrast=0", "augment.saturation=0",
)  # fmt: skip
# of configs/deepfake.yaml, but for what is counted in pixels, of which a face has fewer here
AUGMENT = (
    "crop=0.9", "crop_p=0.5", "rotate=10", "rotate_p=0.5", "shift=0.05", "shift_p=0.3", "brightness=0.2",
    "contrast=0.2", "saturation=0.2", "colour_p=0.5", "grey=0.1", "downscale=2", "downscale_p=0.2", "blur=1",
    "blur_p=0.1", "noise=0.05", "noise_p=0.1", "jpeg=40", "jpeg_p=0.5", "cutout=0.3", "cutout_p=0.2",
)  # fmt: skip
ELEMENTS = {
    "augment": tuple(f"augment.{text}" for text in AUGMENT),
    "pairs": ("data.pairs=true", "data.balanced=false"),  # pairs are balanced
    "self_blend": ("augment.self_blend=0.3",),
    "sam": ("optimizer.sam_rho=0.05",),
}
ARMS = {
    "plain": (), **ELEMENTS, "pairs and self_blend": ELEMENTS["pairs"] + ELEMENTS["self_blend"],
    "all": sum(ELEMENTS.values(), ()),
}  # fmt: skip
DEGRADED = {"jpeg": (80, 60, 40, 20), "blur": (0.5, 1), "downscale": (2,), "noise": (0.02, 0.05, 0.1)}
ROBUST_ARMS = ("plain", "augment", "pairs and self_blend", "all")
RESAMPLES = 1000


@dataclass(frozen=True)
class Trial:
    """One training: without a kind, in one way, from one seed."""

    unseen: str
    arm: str
    seed: int

    @property
    def file(self) -> str:
        return f"{self.unseen}-{self.arm.replace(' ', '-')}-{self.seed}.npz"


def make_shards(work: Path) -> None:
    """Shards of all kinds, in train and in test."""
    if not (work / "shards" / "index.json").exists():
        manifest = make_videos(work / "videos", PEOPLE)
        settings = BuildSettings(frames=FRAMES, size=PIXELS, codec="raw")
        build(BuildRequest(manifest.parent, work / "shards", settings, manifest=manifest))


def run_trial(work: Path, trial: Trial) -> None:
    """Train, and keep the scores of the test's clips, as they are and degraded."""
    torch.set_num_threads(1)
    torch.manual_seed(trial.seed)
    settings = load_settings(None, (*PLAIN, *ARMS[trial.arm], f"seed={trial.seed}"))
    group = Group(0, 1, torch.device("cpu"))
    shards = open_shards(work / "shards")
    rows = source_rows(shards)
    people, kinds = np.array([rows[i]["source"].removesuffix(".mp4").split("_") for i in range(len(rows))]).T
    splits = {split: shards.numbers(split) for split in PEOPLE}
    splits["train"] = splits["train"][kinds[splits["train"]] != trial.unseen]
    model = make_model(settings, shards, splits["train"], None)
    loaders = make_loaders(settings, shards, splits, settings.data.cache, group)
    engine = make_engine(settings, shards, splits["train"], model, group)
    for epoch in range(settings.epochs):
        engine.train_epoch(loaders["train"], epoch, 0, engine.new_sums(), lambda step: False)
    scores = {"whole": softmax(engine.evaluate(loaders["test"]).outputs)[:, 1]}
    for name, strength in degradations() if trial.arm in ROBUST_ARMS else ():
        worse = degraded(loaders["test"], DEGRADATIONS[name].apply, strength)
        scores[f"{name} {strength:g}"] = softmax(engine.evaluate(worse).outputs)[:, 1]
    test = splits["test"]
    content = io.BytesIO()
    np.savez(content, people=people[test], kinds=kinds[test], **scores)
    write_atomically(work / "results" / trial.file, content.getvalue())
    for loader in loaders.values():
        loader.close()


def degradations() -> list[tuple[str, float]]:
    return [(name, strength) for name, strengths in DEGRADED.items() for strength in strengths]


@dataclass(frozen=True)
class Results:
    """The scores of all trials, and how often each of the test's people counts in each resample."""

    work: Path
    seeds: int
    times: np.ndarray  # float (people, 1 + RESAMPLES), of which the first are ones

    def auc(self, trial: Trial, scores: str, kinds: tuple[str, ...]) -> np.ndarray:
        """Of real clips against fakes of these kinds, float (1 + RESAMPLES,)."""
        found = np.load(self.work / "results" / trial.file)
        chosen = np.isin(found["kinds"], ("real", *kinds))
        people = np.unique(found["people"], return_inverse=True)[1][chosen]
        return binary_figures(found["kinds"][chosen] != "real", found[scores][chosen], self.times[people])["auc"]

    def mean_auc(
        self, arm: str, scores: str = "whole", left_out: tuple[str, ...] = UNSEEN, whole: bool = False
    ) -> np.ndarray:
        """Over seeds and the kinds that were left out: of the unseen kind, or of all kinds as a whole."""
        trials = [Trial(kind, arm, seed) for kind in left_out for seed in range(self.seeds)]
        return np.mean([self.auc(trial, scores, KINDS if whole else (trial.unseen,)) for trial in trials], 0)


def cell(values: np.ndarray, sign: str = "") -> str:
    """The figure and its interval."""
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return f"{values[0]:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def show(results: Results) -> None:
    """Print both tables, and write each trial's figure."""
    plain = results.mean_auc("plain")
    print(f"\n| AUC of the unseen kind | {' | '.join(UNSEEN)} | mean | less plain |\n{'|---' * (len(UNSEEN) + 3)}|")
    for arm in ARMS:
        mean, own = results.mean_auc(arm), (results.mean_auc(arm, left_out=(kind,))[0] for kind in UNSEEN)
        difference = "" if arm == "plain" else cell(mean - plain, "+")
        print(f"| {arm} | {' | '.join(f'{value:.3f}' for value in own)} | {cell(mean)} | {difference} |")
    print(f"\n| AUC over all kinds | {' | '.join(ROBUST_ARMS)} |\n{'|---' * (len(ROBUST_ARMS) + 1)}|")
    for scores in ("whole", *(f"{name} {strength:g}" for name, strength in degradations())):
        row = (cell(results.mean_auc(arm, scores, whole=True)) for arm in ROBUST_ARMS)
        print(f"| {scores} | {' | '.join(row)} |")
    with (results.work / "trials.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("unseen", "arm", "seed", "auc"))
        for unseen, arm, seed in itertools.product(UNSEEN, ARMS, range(results.seeds)):
            writer.writerow((unseen, arm, seed, f"{results.auc(Trial(unseen, arm, seed), 'whole', (unseen,))[0]:.4f}"))


@click.command()
@click.argument("work", type=click.Path(file_okay=False, path_type=Path))
@click.option("--seeds", default=2, show_default=True, type=click.IntRange(2))
@click.option("--workers", default=lambda: len(os.sched_getaffinity(0)), type=click.IntRange(1), help="Trials at once.")
def main(work: Path, seeds: int, workers: int) -> None:
    """Train without each kind of fake in turn, in each way, and print the tables. WORK: where results are kept."""
    (work / "results").mkdir(parents=True, exist_ok=True)
    make_shards(work)
    trials = [Trial(kind, arm, seed) for seed in range(seeds) for arm in ARMS for kind in UNSEEN]
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        left = [trial for trial in trials if not (work / "results" / trial.file).exists()]
        running = {pool.submit(run_trial, work, trial): trial for trial in left}
        for done, future in enumerate(as_completed(running), 1):
            future.result()
            print(f"{done} of {len(left)}: {running[future]}", flush=True)
    rng = np.random.default_rng(0)
    draws = [np.arange(PEOPLE["test"]), *(rng.integers(PEOPLE["test"], size=(RESAMPLES, PEOPLE["test"])))]
    times = np.stack([np.bincount(drawn, minlength=PEOPLE["test"]) for drawn in draws], 1).astype(float)
    show(Results(work, seeds, times))


if __name__ == "__main__":
    main()
