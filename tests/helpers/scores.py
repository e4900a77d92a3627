"""Labels and scores of a model that is better than chance, for tests of figures."""

from __future__ import annotations

import numpy as np

from trainer.evaluation.metrics import softmax


def made_scores(num_classes: int, count: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels int (N,), and probabilities float (N, K)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, count)
    logits = rng.normal(size=(count, num_classes)) + 1.2 * np.eye(num_classes)[labels]
    return labels, softmax(logits)
