"""The audit of random splits: how much better clips seem to be told apart where their group is in both splits."""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from trainer.data.loader import ClipLoader
from trainer.shards.shard_set import ShardSet

MOST_CLIPS = 3000  # that are looked at, of whole groups by chance
THUMBNAIL = 16  # pixels a side
COMPONENTS = 64  # of the thumbnails, by which classes are told apart
FOLDS = 5
ALARM = 0.03  # how much higher an accuracy by a random split is worth a warning


def audit_split(shards: ShardSet) -> list[str]:
    """Lines that compare a random split of the clips with one by groups; none where every clip is a group of its own.

    The same cheap probe on thumbnails is cross-validated both ways, over the clips of all splits.
    """
    numbers = _choose(shards.samples["group"].astype(int))
    labels, groups = shards.labels[numbers].astype(int), shards.samples["group"][numbers].astype(int)
    num_groups = len(np.unique(groups))
    fewest = min((len(np.unique(groups[labels == label])) for label in np.unique(labels)), default=0)
    if len(np.unique(labels)) < 2 or num_groups == len(numbers) or fewest < 2:
        return []
    values = _thumbnails(shards, numbers)
    at_random, by_groups = (_accuracy(values, labels, groups, min(FOLDS, fewest), whole) for whole in (False, True))
    lines = [
        f"a probe on thumbnails tells the classes with accuracy {at_random:.2f} by a random split of the clips, "
        f"{by_groups:.2f} by one that keeps groups whole ({len(numbers)} clips of {num_groups} groups)"
    ]
    if at_random - by_groups > ALARM:
        lines.append(
            "WARNING: clips of one group are alike, so a random split of clips (not of groups) would promise too much; "
            "quote figures only from splits by groups, as `shardify build` makes them"
        )
    return lines


def _choose(groups: np.ndarray) -> np.ndarray:
    """The numbers of the clips to look at, in order: all, or those of groups drawn until there are MOST_CLIPS."""
    names, counts = np.unique(groups, return_counts=True)
    names, counts = names[counts <= MOST_CLIPS // 2], counts[counts <= MOST_CLIPS // 2]
    order = np.random.default_rng(0).permutation(len(names))
    kept = order[counts[order].cumsum() <= MOST_CLIPS]
    return np.flatnonzero(np.isin(groups, names[kept]))


def _thumbnails(shards: ShardSet, numbers: np.ndarray) -> np.ndarray:
    """Mean and deviation over the frames of each clip's thumbnails, float32 (N, 2·3·side·side)."""
    found = []
    with contextlib.closing(ClipLoader(shards, "train", 64, shuffle=False, numbers=numbers)) as loader:
        for batch in loader.batches(epoch=0):
            small = adaptive_avg_pool2d(batch.clips.flatten(0, 1).float(), THUMBNAIL).unflatten(
                0, batch.clips.shape[:2]
            )
            found.append(torch.cat([small.mean(1), small.std(1, correction=0)], 1).flatten(1))
    return torch.cat(found).numpy()


def _accuracy(values: np.ndarray, labels: np.ndarray, groups: np.ndarray, folds: int, whole: bool) -> float:
    """The cross-validated accuracy of a support vector machine; whole: no group is in two folds."""
    from sklearn.decomposition import PCA
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import SVC

    splitter = (StratifiedGroupKFold if whole else StratifiedKFold)(folds, shuffle=True, random_state=0)
    groups = groups if whole else None
    components = min(COMPONENTS, values.shape[1], len(values) * (folds - 1) // folds - 1)
    probe = make_pipeline(PCA(components, random_state=0), SVC(C=10))
    return float(cross_val_score(probe, values, labels, groups=groups, cv=splitter).mean())
