"""What a small diffusion model learns of the gait pictures in 1,500 steps, judged by a classifier of real pictures.

    python scripts/bench_diffusion.py WORK [--users 12] [--recordings 15] [--steps 1500] [--shuffled]

makes pictures of 64 px, shards, latents by patch-PCA (16×8×8) and a classifier, trains `model.name=diffusion` and
samples 20 latents of each class at guidance 1, 2 and 4. It prints the samples' deviation, the mean loss of the last 300
steps and the agreement: the share of the samples that the classifier takes for their class, beside that of real
pictures, of real ones through the autoencoder, and chance. With --shuffled the model is trained on labels at random,
which it cannot learn. It takes about ten minutes of one core, and goes on in WORK where it was stopped. Exit code 1
where a figure is out of its bounds.

Measured with 12 users and 1,500 steps, in 5.5 minutes on two idle cores: loss 0.066, deviation 0.91, agreement 0.68 at
guidance 1, 0.83 at 2 and 0.95 at 4, that of reconstructed pictures 0.73. With 8 channels (900 steps) 0.43, 0.55 and
0.69, reconstructed 0.36, which misses 8 times chance at guidance 2: less of what the classifier looks at is left.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import click
import numpy as np
import torch
from torch import Tensor

from shardify.errors import UsageError
from shardify.one_line_errors import failures_as_one_line
from trainer.config.load import load_settings
from trainer.config.run_folder import holds_run
from trainer.config.vae import VaeSpec
from trainer.devices.distributed import Group
from trainer.models.autoencoders.load import Vae, load_vae
from trainer.monitor.step_table import read_table
from trainer.shards.shard_set import ShardSet, open_shards
from trainer.tasks.diffusion.sampling import noise_of, sample
from trainer.tasks.diffusion.saved import SavedDiffusion, load_diffusion, model_folder
from trainer.tasks.diffusion.task import Diffusion
from trainer.tools.study.classifier import classifier_settings, score, train_classifier
from trainer.tools.study.pictures import Pictures, read_pictures
from trainer.train import train

SCRIPTS = Path(__file__).parent
CPU = Group(0, 1, torch.device("cpu"))
PER_CLASS, GUIDANCES, LAST = 20, (1.0, 2.0, 4.0), 300
CLASSIFIER_STEPS = 600
EVERY = 300  # steps from one validation to the next
MODEL = (
    "model={name: diffusion, channels: [64, 96], sample_every_steps: 300}", "batch_size=32", "ema=0.995",
    f"checkpoint_every_steps={EVERY}", "optimizer={lr: 1e-3, weight_decay: 0}",
    "scheduler={name: constant, warmup_steps: 100}",
)  # fmt: skip
STD, MOST_LOSS, LEAST_AGREEMENT, TIMES_CHANCE, SHUFFLED_TIMES = (0.9, 1.1), 0.15, 0.5, 8, 2


def prepare(work: Path, users: int, recordings: int) -> VaeSpec:
    """pictures, shards, pca.safetensors and latents in WORK, as far as they are not there; the autoencoder."""
    size, options = 64, {"channels": 16, "patch": 8}
    pictures, shards, weights, latents = (work / name for name in ("pictures", "shards", "pca.safetensors", "latents"))
    module, vae = [sys.executable, "-m"], ["--vae", "patch_pca:PatchPCA", "--vae-weights", weights]
    vae += ["--vae-options", json.dumps(options)]
    made = ["--users", users, "--recordings", recordings, "--size", size]
    built = ["--manifest", pictures / "pictures.csv", "--frames", 1, "--size", size, "--workers", 2]
    steps = {
        pictures / "pictures.csv": [sys.executable, SCRIPTS / "make_demo_gait.py", pictures, *made],
        shards / "index.json": [*module, "shardify", "build", pictures, shards, *built],
        weights: [sys.executable, SCRIPTS / "patch_pca.py", shards, weights, "--channels", 16],
        latents / "index.json": [*module, "trainer.encode", "--shards", shards, *vae, "--out", latents],
    }
    for result, command in steps.items():
        if not result.exists():
            path = os.pathsep.join([str(SCRIPTS), os.environ.get("PYTHONPATH", "")])  # where patch_pca is found
            subprocess.run(list(map(str, command)), check=True, env=os.environ | {"PYTHONPATH": path})
    return VaeSpec(vae="patch_pca:PatchPCA", weights=weights, options=options)


def train_model(latents: Path, run: Path, steps: int, shuffled: bool) -> SavedDiffusion:
    def labels(task: Diffusion, shards: ShardSet) -> np.ndarray:
        own = shards.labels.astype(np.int64)
        return np.random.default_rng(0).permutation(own) if shuffled else own

    with patch.object(Diffusion, "labels", labels):
        train(load_settings(None, (*MODEL, f"steps={steps}")), latents, run, CPU, resume=holds_run(run))
    return load_diffusion(model_folder(run, "last"), CPU.device)


def draw(saved: SavedDiffusion, guidance: float) -> Tensor:
    """Standardised latents (K·PER_CLASS, C, h, w), in the order of the classes."""
    wanted = [(label, number) for label in range(len(saved.classes)) for number in range(PER_CLASS)]
    found = []
    for start in range(0, len(wanted), 60):
        some = wanted[start : start + 60]
        noise = torch.stack([noise_of(0, label, number, saved.shape) for label, number in some])
        labels = torch.tensor([label for label, _ in some])
        found.append(sample(saved.unet, labels, noise, settings=saved.settings, guidance=guidance, steps=25))
    return torch.cat(found)


class Judge:
    """A classifier that has learned the real pictures of train."""

    def __init__(self, shards: ShardSet) -> None:
        self._pictures = read_pictures(shards, None)
        self._settings = classifier_settings(("model.backbone=tiny",), CPU.device)
        train_places = self._pictures.of_split("train")
        self._model = train_classifier(self._pictures, train_places, self._settings, CLASSIFIER_STEPS, CPU).model

    def real(self) -> float:
        return self._agreement(self._pictures, self._pictures.of_split("test"))

    def reconstructed(self, vae: Vae) -> float:
        """Of pictures of test that have gone through the autoencoder."""
        places = self._pictures.of_split("test")
        parts = self._pictures.values[torch.from_numpy(places)].split(64)
        images = torch.cat([vae.decode(vae.moments(vae.to_input(part / 255))[0]) for part in parts])
        return self._of_images(images, self._pictures.labels[places])

    def samples(self, vae: Vae, latents: Tensor) -> float:
        labels = np.repeat(np.arange(len(latents) // PER_CLASS), PER_CLASS)
        return self._of_images(torch.cat([vae.decode(part) for part in latents.split(64)]), labels)

    def _of_images(self, images: Tensor, labels: np.ndarray) -> float:
        """The agreement of images, float32 (N, 3, S, S) in [0, 1], with these classes."""
        first = np.array(
            [np.flatnonzero(self._pictures.labels == label)[0] for label in labels]
        )  # a clip of each class
        pixels = (255 * images).round().clamp(0, 255).to(torch.uint8)
        return self._agreement(Pictures(self._pictures.shards, pixels, first, 0), np.arange(len(pixels)))

    def _agreement(self, pictures: Pictures, places: np.ndarray) -> float:
        outputs, _ = score(self._model, pictures, places, self._settings, CPU)
        return float((outputs.argmax(1) == pictures.labels[places]).mean())


@click.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--users", default=12, show_default=True)
@click.option("--recordings", default=15, show_default=True, help="Of each user; a third is for training.")
@click.option("--steps", default=1500, show_default=True, help=f"A multiple of {EVERY}.")
@click.option("--shuffled", is_flag=True, help="Train on labels at random.")
def main(work: Path, users: int, recordings: int, steps: int, shuffled: bool) -> None:
    """Train a small diffusion model on made pictures and judge its samples."""
    with failures_as_one_line():
        sound = measure(work, users, recordings, steps, shuffled)
    for what, holds in sound.items():
        print(f"{what}: {'yes' if holds else 'NO'}")
    sys.exit(not all(sound.values()))


def measure(work: Path, users: int, recordings: int, steps: int, shuffled: bool) -> dict[str, bool]:
    """Print the figures; whether each keeps its bounds."""
    work.mkdir(parents=True, exist_ok=True)
    vae = load_vae(prepare(work, users, recordings), CPU.device)
    shards = open_shards(work / "shards")
    if len(shards.classes) != users:
        raise UsageError(f"{work}: holds pictures of {len(shards.classes)} users, not {users}; pass another WORK")
    run = work / ("run-shuffled" if shuffled else "run")
    saved = train_model(work / "latents", run, steps, shuffled)
    judge, chance = Judge(shards), 1 / users
    losses = [float(row["loss"]) for row in read_table(run) if int(row["step"]) > steps - LAST]
    loss = float(np.mean(losses))
    print(f"loss of the last {LAST} of {steps} steps: {loss:.4f}")
    print(f"agreement: real {judge.real():.3f}, through the autoencoder {judge.reconstructed(vae):.3f}")
    print(f"by chance {chance:.3f}")
    agreements, deviations = {}, {}
    for guidance in GUIDANCES:
        latents = draw(saved, guidance)
        deviations[guidance], agreements[guidance] = float(latents.std()), judge.samples(vae, saved.latents(latents))
        print(f"guidance {guidance:g}: deviation {deviations[guidance]:.3f}, agreement {agreements[guidance]:.3f}")
    agreement = agreements[2.0]
    if shuffled:
        return {f"agreement at guidance 2 at most {SHUFFLED_TIMES} times chance": agreement <= SHUFFLED_TIMES * chance}
    return {
        f"deviation at guidance 1 within {STD}": STD[0] <= deviations[1.0] <= STD[1],
        f"loss at most {MOST_LOSS}": loss <= MOST_LOSS,
        f"agreement at guidance 2 at least {LEAST_AGREEMENT}": agreement >= LEAST_AGREEMENT,
        f"and {TIMES_CHANCE} times chance": agreement >= TIMES_CHANCE * chance,
    }


if __name__ == "__main__":
    main()
