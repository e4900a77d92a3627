"""The losses of classification by name: logits (B, K) and classes (B,) give (B,) losses, one per clip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from shardify.format.records import UNLABELLED
from trainer.errors import SettingsError
from trainer.tasks.base import Loss
from trainer.tasks.classification.settings import ClassificationLoss


def build_loss(settings: ClassificationLoss, class_counts: np.ndarray, device: torch.device) -> Loss:
    """The loss over K classes; class_counts, int (K,), are the train split's clips of each, for the class weights.

    Raises SettingsError where the loss does not fit the number of classes.
    """
    weight = None
    if settings.class_weights:
        weights = class_counts.sum() / (len(class_counts) * class_counts.clip(1))
        weight = torch.tensor(weights, dtype=torch.float32, device=device)
    if settings.name == "cross_entropy":
        return lambda logits, target: functional.cross_entropy(
            logits.float(), target, weight, reduction="none", label_smoothing=settings.smoothing
        )
    if len(class_counts) != 2 and (settings.name == "bce" or settings.alpha != -1):
        what = "loss.name=bce" if settings.name == "bce" else "loss.alpha"
        count = len(class_counts)
        raise SettingsError(f"{what} is for two classes, the shards have {count}; use cross_entropy or focal")
    if settings.name == "bce":
        return lambda logits, target: _weigh(_binary_cross_entropy(logits.float(), target), target, weight)
    return lambda logits, target: _weigh(
        focal_loss(logits.float(), target, settings.alpha, settings.gamma), target, weight
    )


def build_head_losses(
    settings: ClassificationLoss, class_counts: Sequence[np.ndarray], weights: Sequence[float], device: torch.device
) -> Loss:
    """The losses of several heads: logits (B, K), those of each head beside each other, and labels (B, H) to (B, H).

    Each is multiplied by its head's weight; it is 0, as is its gradient, where a clip has no label.
    """
    losses = [build_loss(settings, counts, device) for counts in class_counts]
    widths = [len(counts) for counts in class_counts]

    def of_heads(logits: Tensor, labels: Tensor) -> Tensor:
        heads = zip(losses, weights, logits.split(widths, 1), labels.unbind(1), strict=True)
        columns = [
            torch.where(label == UNLABELLED, 0.0, weight * loss(own, label.clamp(min=0)))
            for loss, weight, own, label in heads
        ]
        return torch.stack(columns, dim=1)

    return of_heads


def focal_loss(logits: Tensor, target: Tensor, alpha: float, gamma: float) -> Tensor:
    """-alpha_t · (1 - p_t)^gamma · log p_t, p the softmax (Lin et al., "Focal loss for dense object detection", 2017).

    alpha weighs class 1 of two, 1 - alpha class 0; -1 disables it.
    """
    log_p = functional.log_softmax(logits, 1).gather(1, target[:, None])[:, 0]
    # at p = 1 the power's slope is infinite where gamma < 1
    loss = -((1 - log_p.exp()).clamp(min=1e-6) ** gamma) * log_p
    return loss if alpha == -1 else loss * torch.where(target == 1, alpha, 1 - alpha)


def _binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """On the margin between the two logits, so that a softmax gives the probability here too."""
    return functional.binary_cross_entropy_with_logits(
        logits[:, 1] - logits[:, 0], target.to(logits.dtype), reduction="none"
    )


def _weigh(loss: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    return loss if weight is None else loss * weight[target]
