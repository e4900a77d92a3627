"""How near synthetic pictures are to real ones, by arrays of features alone.

Shapes: N synthetic, M real, D features.
"""

from __future__ import annotations

import numpy as np

NEIGHBOURS = 3  # of the manifolds of precision and recall, as in the paper
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
