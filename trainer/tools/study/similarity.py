"""How near synthetic pictures are to real ones, by arrays of features or of pixels alone.

Shapes: N synthetic, M real, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NEIGHBOURS = 3  # of the manifolds of precision and recall, as in the paper
NEAR_QUANTILE = 0.01  # of the distances from val to train, up to which a synthetic picture is a near neighbour
PAIRS = 16  # that are shown
MOST = 4_000  # pictures of a set: kernels and distances of all pairs grow with the square


def kernel_distance(features: np.ndarray, others: np.ndarray) -> float | None:
    """The kernel distance of two sets of features, float (N, D) and (M, D), 0 where they are of one distribution.

    None where a set is a single picture, which says nothing of how it varies. Of larger sets MOST are taken, by chance.

    Binkowski et al., "Demystifying MMD GANs" (2018): the unbiased squared maximum mean discrepancy under the kernel
    (x·y / D + 1)^3, which may be a little below 0. There the features are Inception's; who calls this names its own.
    """
    from sklearn.metrics.pairwise import polynomial_kernel

    if min(len(features), len(others)) < 2:
        return None
    within, (features, others) = [], _cut(features, others, MOST)
    for one in (features, others):
        kernel = polynomial_kernel(one, degree=3, coef0=1)
        within.append((kernel.sum() - np.trace(kernel)) / (len(one) * (len(one) - 1)))
    return float(sum(within) - 2 * polynomial_kernel(features, others, degree=3, coef0=1).mean())


def precision_recall(features: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """The share of synthetic pictures among the real ones, and of real ones among the synthetic.

    Kynkäänniemi et al., "Improved precision and recall metric for assessing generative models" (2019): a picture is
    among a set where it lies no further from one of its pictures than that one's third nearest. Both figures depend on
    the sizes of the sets, so the larger set is cut, by chance, to that of the smaller one, and both to MOST.
    """
    chosen = _cut(features, real, min(len(features), len(real), MOST))
    return _share_among(*chosen), _share_among(*chosen[::-1])


def _cut(features: np.ndarray, others: np.ndarray, most: int) -> list[np.ndarray]:
    """At most so many of each, by chance."""
    rng = np.random.default_rng(0)
    return [one[rng.permutation(len(one))[:most]] for one in (features, others)]


def _share_among(points: np.ndarray, others: np.ndarray) -> float:
    from scipy.spatial.distance import cdist

    nearest = min(NEIGHBOURS, len(others) - 1)
    radii = np.partition(cdist(others, others), nearest, axis=1)[:, nearest]  # its own distance, 0, is the first
    return float((cdist(points, others) <= radii).any(1).mean())


def spread(features: np.ndarray, labels: np.ndarray) -> float:
    """The mean distance of features, float (N, D), from the mean of their class, int (N,), over the classes."""
    return float(np.mean([_spread_of(features[labels == label]) for label in np.unique(labels)]))


def _spread_of(features: np.ndarray) -> float:
    return float(np.linalg.norm(features - features.mean(0), axis=1).mean())


@dataclass(frozen=True)
class Neighbours:
    """The nearest training picture of each synthetic one: N of them."""

    nearest: np.ndarray  # int (N,): its place among the training pictures
    distances: np.ndarray  # float (N,)
    near: float  # the distance up to which they are near neighbours

    @property
    def share(self) -> float:
        """Of synthetic pictures, that are near neighbours of a training picture."""
        return float((self.distances <= self.near).mean())

    def closest(self) -> np.ndarray:
        """The places of the synthetic pictures that are closest to a training picture, the closest first."""
        return np.argsort(self.distances, kind="stable")[:PAIRS]


def neighbours(pixels: np.ndarray, train: np.ndarray, val: np.ndarray) -> Neighbours:
    """The nearest training pictures of synthetic ones, by pixels float (N, D), (M, D) and (V, D) of pictures of val.

    As near to train as the nearest 1% of the pictures of val, which come from other recordings, is a near neighbour:
    of pictures as new as those of val it is 1% of them.
    """
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(train)
    of_pixels, of_val = (index.kneighbors(each, return_distance=False)[:, 0] for each in (pixels, val))
    distances, usual = _apart(pixels, train[of_pixels]), _apart(val, train[of_val])
    return Neighbours(of_pixels, distances, float(np.quantile(usual, NEAR_QUANTILE)))


def _apart(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The distances of pairs, float (N,), 0 for copies: those of the search are rounded."""
    return np.linalg.norm(some - others, axis=1)
