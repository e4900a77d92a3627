"""How samples of a diffusion model lie among real latents: figures by which a run is watched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from trainer.shards.shard_set import ShardSet
from trainer.tasks.diffusion.model import LatentDiffusion

MOST_REAL = 4_000  # clips of a split that samples are compared with
AT_ONCE = 64  # latents whose distances are computed
NEAR = 0.01  # share of val's clips that count as near to a clip of train
COMPONENTS = 256  # of latents, for the classifier


@dataclass(frozen=True)
class Latents:
    """Standardised latents with their classes."""

    values: np.ndarray  # float32 (N, C·h·w)
    labels: np.ndarray  # int64 (N,)


def real_of(shards: ShardSet, split: str, model: LatentDiffusion) -> Latents:
    """Those of a split, at most MOST_REAL."""
    numbers = evenly(shards.numbers(split), MOST_REAL)
    values = latents_of(shards, numbers, model)
    return Latents(values.reshape(len(values), int(np.prod(values.shape[1:]))), shards.labels[numbers].astype(np.int64))


def compare(samples: Latents, train: Latents, val: Latents) -> dict[str, float]:
    """Figures of samples among real latents.

    `latent_std`: the deviation of standardised latents of train, 1 where the statistics fit. `sample_std`: that of the
    samples. `sample_near`: the share of samples that are nearer to a clip of train than NEAR of val's clips are.
    `sample_agreement`: the share that a classifier of latents takes for their class; `real_agreement`: that of val,
    which says what the classifier is worth. The last three need a val split.
    """
    figures = {"latent_std": float(train.values.std()), "sample_std": float(samples.values.std())}
    if len(val.values) == 0:
        return figures
    limit = np.quantile(distances(val.values, train.values), NEAR)
    figures["sample_near"] = float((distances(samples.values, train.values) < limit).mean())
    if len(np.unique(train.labels)) > 1:
        classifier = fit_classifier(train)
        for name, latents in (("sample_agreement", samples), ("real_agreement", val)):
            figures[name] = float(classifier.score(latents.values, latents.labels))
    return figures


def fit_classifier(train: Latents):
    """A linear classifier of latents: discriminant analysis of their principal components, in a second."""
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.pipeline import make_pipeline

    components = PCA(min(COMPONENTS, *train.values.shape), random_state=0)
    analysis = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    return make_pipeline(components, analysis).fit(train.values, train.labels)


def latents_of(shards: ShardSet, numbers: Iterable[int], model: LatentDiffusion) -> np.ndarray:
    """The standardised means of these clips' posteriors, float32 (N, C, h, w)."""
    member = shards.members["latent"]
    means = [member.decode(shards.read(number, ["latent"])[0])[: member.channels] for number in numbers]
    mean, std = (values.cpu().numpy() for values in (model.mean, model.std))
    return (np.array(means, np.float32).reshape(-1, member.channels, *member.shape[1:]) - mean) / std


def distances(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How far each of `some` points (N, D) is from the nearest of the others, float32 (N,)."""
    first, second = torch.from_numpy(some), torch.from_numpy(others)
    return torch.cat([torch.cdist(part, second).amin(1) for part in first.split(AT_ONCE)]).numpy()


def evenly(numbers: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the numbers, evenly chosen."""
    count = min(len(numbers), most)
    return numbers[np.arange(count) * len(numbers) // max(count, 1)]
