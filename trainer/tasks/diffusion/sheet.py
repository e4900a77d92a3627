"""The samples that a run shows of itself: a sheet with a row for each class, and how they lie among real ones."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from shardify.storage.local import write_atomically
from trainer.evaluation.neighbours import neighbours
from trainer.evaluation.report import show
from trainer.shards.shard_set import ShardSet
from trainer.shards.splits import choose_evenly
from trainer.tasks.diffusion.agreement import class_agreement
from trainer.tasks.diffusion.model import LatentDiffusion
from trainer.tasks.diffusion.sampling import noise_of, sample

PER_CLASS, STEPS, AT_ONCE = 4, 25, 64  # samples of a class, steps of the sampler, samples at once
MOST_CLASSES = 40  # rows of a sheet
MOST_REAL = 4_000  # clips of a split that samples are compared with
FITTED = 64  # clips, from which the pictures of latents are learned
TILE = 128  # largest side of a picture on the sheet


@dataclass(frozen=True)
class Real:
    """Clips that samples are compared with: their standardised latents, float32 (N, C, h, w), and classes, int (N,)."""

    numbers: np.ndarray  # of all clips of train, int64
    train: np.ndarray
    train_labels: np.ndarray
    val: np.ndarray
    val_labels: np.ndarray


def read_real(shards: ShardSet, numbers: dict[str, np.ndarray], model: LatentDiffusion) -> Real:
    """At most MOST_REAL clips of train and of val each, evenly chosen; numbers: of all of them, by split."""
    found = []
    for split in ("train", "val"):
        chosen = choose_evenly(numbers[split], MOST_REAL)
        found += [latents_of(shards, chosen, model), shards.labels[chosen]]
    return Real(numbers["train"], *found)


def sample_sheet(model: LatentDiffusion, shards: ShardSet, real: Real, seed: int, path: Path) -> dict[str, float]:
    """Sample a few latents of each class from noise that is the same every time; write them, and a sheet of them.

    path: without its suffix; .npz holds the standardised samples as float16 (K, PER_CLASS, C, h, w), .jpg the sheet,
    on which a real picture stands before the samples of its class. Returns `latent_std`, of standardised latents of
    train, `sample_std`, `sample_near`, the share of samples that are near neighbours of a clip of train, and the
    figures of `class_agreement`.
    """
    samples = draw_samples(model, min(len(shards.classes), MOST_CLASSES), seed)
    buffer = io.BytesIO()
    np.savez(buffer, samples=samples.astype(np.float16))
    write_atomically(path.with_suffix(".npz"), buffer.getvalue())
    show(partial(draw_sheet, samples, shards, real.numbers, model), path.with_suffix(".jpg"))
    flat = [latents.reshape(-1, math.prod(latents.shape[-3:])) for latents in (samples, real.train, real.val)]
    figures = {
        "latent_std": drawn_std(real.train, shards, model),
        "sample_std": float(samples.std()),
        "sample_near": neighbours(*flat).share,
    }
    return figures | class_agreement(samples, real.train, real.train_labels, real.val, real.val_labels)


def draw_samples(model: LatentDiffusion, num_classes: int, seed: int) -> np.ndarray:
    """Standardised latents, float32 (K, PER_CLASS, C, h, w), without guidance."""
    shape = model.mean.shape[0], *model.unet.config.sample_size
    wanted = [(label, number) for label in range(num_classes) for number in range(PER_CLASS)]
    found = []
    for start in range(0, len(wanted), AT_ONCE):
        some = wanted[start : start + AT_ONCE]
        noise = torch.stack([noise_of(seed, label, number, shape) for label, number in some]).to(model.mean.device)
        labels = torch.tensor([label for label, _ in some], device=noise.device)
        steps = min(STEPS, model.settings.timesteps)
        found.append(sample(model.unet, labels, noise, settings=model.settings, steps=steps).cpu().numpy())
    return np.concatenate(found).reshape(num_classes, PER_CLASS, *shape)


def latents_of(shards: ShardSet, numbers: Iterable[int], model: LatentDiffusion) -> np.ndarray:
    """The standardised means of these clips' posteriors, float32 (N, C, h, w)."""
    member = shards.members["latent"]
    means = [member.decode(shards.read(number, ["latent"])[0])[: member.channels] for number in numbers]
    mean, std = (values.cpu().numpy() for values in (model.mean, model.std))
    return (np.array(means, np.float32).reshape(-1, member.channels, *member.shape[1:]) - mean) / std


def drawn_std(means: np.ndarray, shards: ShardSet, model: LatentDiffusion) -> float:
    """The deviation of standardised latents as they are trained on; means: of their posteriors, (N, C, h, w)."""
    if model.settings.posterior == "mean":
        return float(means.std())
    around = np.array(shards.members["latent"].posterior_std) / model.std.flatten().cpu().numpy()
    return float(np.hypot(means.std(), np.sqrt(np.square(around).mean())))


def draw_sheet(samples: np.ndarray, shards: ShardSet, train: np.ndarray, model: LatentDiffusion, path: Path) -> None:
    """Write a JPEG of the samples, a row for each class with a real picture first, of train's numbers, int64 (N,).

    Pictures of latents are linear: each place of a latent gives its square of pixels, by least squares over clips of
    train. That takes no autoencoder; it is exact for patch-PCA, and blurred for others.
    """
    from PIL import Image

    fitted = choose_evenly(train, FITTED)
    pictures = np.stack([picture_of(shards, number) for number in fitted])
    cells = samples.shape[-2:]
    known, squares = with_one(latents_of(shards, fitted, model)), to_squares(pictures, cells)
    weights = np.linalg.lstsq(known, squares, rcond=None)[0]
    rows = []
    for label, own in enumerate(samples):
        of_class = train[shards.labels[train] == label]
        real = picture_of(shards, of_class[0]) if len(of_class) else np.zeros_like(pictures[0])
        rows.append(np.concatenate([real, *to_pictures(with_one(own) @ weights, cells, pictures.shape[1])], axis=1))
    sheet = Image.fromarray((255 * np.concatenate(rows)).clip(0, 255).astype(np.uint8))
    factor = min(1, TILE / pictures.shape[1])
    width, height = (max(1, round(factor * side)) for side in sheet.size)
    buffer = io.BytesIO()
    sheet.resize((width, height), Image.Resampling.BOX).save(buffer, "JPEG", quality=90)
    write_atomically(path, buffer.getvalue())


def to_squares(pictures: np.ndarray, cells: tuple[int, int]) -> np.ndarray:
    """Pictures (N, S, S, 3) as squares of pixels, (N·h·w, 3·(S/h)·(S/w)), one for each place of latents (h, w)."""
    rows, columns = cells
    count, size = pictures.shape[:2]
    squares = pictures.reshape(count, rows, size // rows, columns, size // columns, 3).transpose(0, 1, 3, 2, 4, 5)
    return squares.reshape(count * rows * columns, -1)


def to_pictures(squares: np.ndarray, cells: tuple[int, int], size: int) -> np.ndarray:
    """The reverse of `to_squares`."""
    rows, columns = cells
    squares = squares.reshape(-1, rows, columns, size // rows, size // columns, 3)
    return squares.transpose(0, 1, 3, 2, 4, 5).reshape(-1, size, size, 3)


def picture_of(shards: ShardSet, number: int) -> np.ndarray:
    """The first frame of a clip, float32 (S, S, 3) in [0, 1]."""
    member = shards.first_member
    return member.decode(shards.read(number, [member.name])[0])[0].astype(np.float32) / 255


def with_one(latents: np.ndarray) -> np.ndarray:
    """Each place of latents (N, C, h, w) as a row of its values and a one, (N·h·w, C + 1)."""
    places = latents.transpose(0, 2, 3, 1).reshape(-1, latents.shape[1])
    return np.concatenate([places, np.ones_like(places[:, :1])], axis=1)
