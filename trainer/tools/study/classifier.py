"""The classifier of the study: the trainer's own model and training step, for as many steps in every arm."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from trainer.config.auto import resolve_by_device, resolve_by_model
from trainer.config.load import load_settings
from trainer.config.settings import Settings, is_custom
from trainer.devices.distributed import Group
from trainer.engine.assemble import make_engine, make_model
from trainer.engine.evaluate import autocast, choose_dtype
from trainer.engine.optimizer import Schedule
from trainer.errors import SettingsError
from trainer.tasks.classification.settings import ClassificationLoss
from trainer.tools.study.pictures import Pictures
from trainer.transforms.clips import normalise, to_float

logger = logging.getLogger(__name__)

# resnet18 of single pictures. No augmentation: to mirror a spectrogram turns its time round, a crop changes its speeds,
# and its colours are a map of values. No pretrained weights, which may or may not be at hand.
CLASSIFIER = (
    "model.backbone=resnet18", "model.weights=none", "model.differences=false", "model.lstm_hidden=0",
    "model.attention_heads=0", "augment={flip: 0, crop: 1, brightness: 0, contrast: 0, saturation: 0}",
    "optimizer.lr=1e-3", "scheduler={name: cosine, warmup_epochs: 0.05}", "batch_size=32",
)  # fmt: skip
USED = ("model", "optimizer", "loss", "scheduler", "augment", "batch_size", "accumulate", "ema", "amp")  # of settings
EVALUATIONS = 10  # on val, spread evenly over the steps
SCORED_AT_ONCE = 256  # pictures


@dataclass(frozen=True)
class Trained:
    """A trained classifier as it was best on val, or without val after its last step."""

    model: nn.Module  # in evaluation mode
    best_step: int | None  # None: there is no val, so no step is called the best
    val_accuracy: float | None


def classifier_settings(overrides: tuple[str, ...], device: torch.device) -> Settings:
    """The settings of the classifier with the user's changes. Raises SettingsError where a study cannot have them."""
    for text in overrides:
        if text.partition("=")[0].partition(".")[0] not in USED:
            raise SettingsError(f"--set {text}: a study does not have this setting; it has {', '.join(USED)}")
    settings = resolve_by_device(load_settings(None, (*CLASSIFIER, *overrides)), device)
    if is_custom(settings.model) or settings.model.name != "resnet_lstm":
        raise SettingsError(f"model.name is {settings.model.name}; the study's features are those of resnet_lstm")
    if not isinstance(settings.loss, ClassificationLoss):
        raise SettingsError(
            f"loss.name is {settings.loss.name}; a study learns classes: use cross_entropy, focal or bce"
        )
    if settings.batch_size == "auto":
        raise SettingsError("batch_size is auto; equal steps need a number, the same for every arm")
    return settings


def train_classifier(pictures: Pictures, places: np.ndarray, settings: Settings, steps: int, group: Group) -> Trained:
    """Train on the pictures at these places, int64 (N,), and keep the weights that are best on val, if there is one.

    All that is drawn, and the order of the pictures, follows from settings.seed. Raises TrainerError.
    """
    torch.manual_seed(settings.seed)
    numbers = pictures.numbers[places]
    model = make_model(settings, pictures.shards, numbers, None)
    settings = resolve_by_model(settings, model)
    engine = make_engine(settings, pictures.shards, numbers, model, group)
    engine.schedule = Schedule(engine.optimizer, settings.scheduler, 1, steps, maximise=True)
    ends = {round(steps * (i + 1) / EVALUATIONS) for i in range(EVALUATIONS)} - {0}
    best, weights, val = Trained(model, None, None), {}, pictures.of_split("val")
    engine.begin_epoch(0)
    sums = engine.new_sums()
    for step, chosen in enumerate(_batches(places, settings.batch_size, steps, settings.seed), 1):
        engine.train_step(pictures.batch(chosen, group.device, step), 0, step - 1, sums)
        if step in ends:
            engine.guard.check(f"step {step}")
        if step in ends and len(val):
            outputs, _ = score(engine.evaluated, pictures, val, settings, group)
            accuracy = float((outputs.argmax(1) == pictures.labels[val]).mean())
            engine.schedule.after_epoch(accuracy)
            if best.val_accuracy is None or accuracy > best.val_accuracy:
                best = Trained(model, step, accuracy)
                weights = {name: value.clone() for name, value in engine.evaluated.state_dict().items()}
            engine.begin_epoch(0)
    model.load_state_dict(weights or engine.evaluated.state_dict())
    model.eval()
    return best


def _batches(places: np.ndarray, size: int, steps: int, seed: int) -> Iterator[np.ndarray]:
    """`steps` batches of exactly `size` places: one pass after the other, each in an order of its own."""
    left, passes = np.empty(0, np.int64), 0
    for _ in range(steps):
        while len(left) < size:
            order = np.random.default_rng([seed, passes]).permutation(len(places))
            left, passes = np.concatenate([left, places[order]]), passes + 1
        yield left[:size]
        left = left[size:]


@torch.inference_mode()
def score(
    model: nn.Module, pictures: Pictures, places: np.ndarray, settings: Settings, group: Group
) -> tuple[np.ndarray, np.ndarray]:
    """The outputs, float32 (N, K), and the features before the last layer, float32 (N, D), of pictures by place."""
    model.eval()
    outputs, features = [], []

    def keep(_: nn.Module, inputs: tuple[Tensor]) -> None:
        features.append(inputs[0].float().cpu())

    hook = model.head.register_forward_pre_hook(keep)
    try:
        for start in range(0, len(places), SCORED_AT_ONCE):
            batch = pictures.batch(places[start : start + SCORED_AT_ONCE], group.device)
            clips = normalise(to_float(batch.clips, settings.data.frames, settings.data.size))
            with autocast(group.device, choose_dtype(settings.amp, group.device)):
                outputs.append(model(clips).float().cpu())
    finally:
        hook.remove()
    return torch.cat(outputs).numpy(), torch.cat(features).numpy()


def with_seed(settings: Settings, seed: int) -> Settings:
    """The settings of one of the repetitions."""
    return dataclasses.replace(settings, seed=seed)
