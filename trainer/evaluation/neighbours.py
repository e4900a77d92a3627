"""Which synthetic pictures lie near a training picture, by arrays of their pixels or of their latents alone.

Shapes: N synthetic, M of train, V of val, D values of each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NEAR_QUANTILE = 0.01  # of the distances from val to train, up to which a synthetic picture is a near neighbour
CLOSEST = 16  # pictures that are shown


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
        return np.argsort(self.distances, kind="stable")[:CLOSEST]


def neighbours(synthetic: np.ndarray, train: np.ndarray, val: np.ndarray) -> Neighbours:
    """The nearest training pictures of synthetic ones, float (N, D), (M, D) and, of pictures of val, (V, D).

    As near to train as the nearest 1% of the pictures of val, which come from other recordings, is a near neighbour:
    of pictures as new as those of val it is 1% of them. Raises ValueError where one of the three is empty, or a
    value is not finite.
    """
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(train)
    of_synthetic, of_val = (index.kneighbors(each, return_distance=False)[:, 0] for each in (synthetic, val))
    distances, usual = _apart(synthetic, train[of_synthetic]), _apart(val, train[of_val])
    return Neighbours(of_synthetic, distances, float(np.quantile(usual, NEAR_QUANTILE)))


def _apart(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The distances of pairs, float (N,), 0 for copies: those of the search are rounded."""
    return np.linalg.norm(some - others, axis=1)
