"""Figures of latents, over any number of them: per channel, and of the posterior."""

from __future__ import annotations

import math

import numpy as np


class LatentStatistics:
    """Sums over latents (N, 2C, h, w), mean then log-variance, in float64, in the order in which they come."""

    def __init__(self, channels: int) -> None:
        self.channels, self.count, self.not_finite = channels, 0, 0
        self._values = 0  # of each channel
        self._sum, self._squares, self._variance = (np.zeros(channels) for _ in range(3))
        self._min, self._max = math.inf, -math.inf

    def add(self, latents: np.ndarray) -> None:
        """Values that are not finite are counted, and their latents left out."""
        finite = np.isfinite(latents)
        self.not_finite += int((~finite).sum())
        latents = latents[finite.all((1, 2, 3))].astype(np.float64)
        if len(latents) == 0:
            return
        means, logvars = latents[:, : self.channels], latents[:, self.channels :]
        self.count += len(latents)
        self._values += means[:, 0].size
        self._sum += means.sum((0, 2, 3))
        self._squares += (means**2).sum((0, 2, 3))
        self._variance += np.exp(logvars).sum((0, 2, 3))
        self._min, self._max = min(self._min, means.min()), max(self._max, means.max())

    def figures(self) -> dict:
        """As index.json has them; `scaling_factor` is None where all latents are the same. At least one was added."""
        mean = self._sum / self._values
        variance = np.maximum(self._squares / self._values - mean**2, 0)
        std = self.overall()[1]
        return {
            "count": self.count,
            "mean": mean.tolist(),
            "std": np.sqrt(variance).tolist(),
            "posterior_std": np.sqrt(self._variance / self._values).tolist(),
            "min": float(self._min),
            "max": float(self._max),
            "scaling_factor": 1 / std if std > 0 else None,
        }

    def overall(self) -> tuple[float, float]:
        """Mean and standard deviation over all channels."""
        count = self._values * self.channels
        mean = self._sum.sum() / count
        return float(mean), math.sqrt(max(0.0, self._squares.sum() / count - mean**2))
