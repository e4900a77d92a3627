"""The registry of tasks: what can be learned, each in a folder of its own that brings its losses' settings."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from trainer.config.settings import LOSSES, MODELS, LossSettings, Settings
from trainer.tasks.autoencoder.settings import AutoencoderSettings
from trainer.tasks.classification.settings import BinaryCrossEntropy, CrossEntropy, Focal
from trainer.tasks.diffusion.settings import DiffusionSettings
from trainer.tasks.multimodal.settings import MultimodalSettings
from trainer.tasks.regression.settings import AbsoluteError, SquaredError

if TYPE_CHECKING:
    from shardify.format.members import Member
    from shardify.format.records import Head
    from trainer.tasks.base import Task

# the models and losses that ask for a task: its class, and that for clips with several heads where it is another
TASKS = {
    (AutoencoderSettings,): ("trainer.tasks.autoencoder.task:Autoencoder",),
    (DiffusionSettings,): ("trainer.tasks.diffusion.task:Diffusion",),
    (MultimodalSettings,): (
        "trainer.tasks.multimodal.task:Multimodal", "trainer.tasks.multimodal.task:MultimodalHeads",
    ),
    (CrossEntropy, Focal, BinaryCrossEntropy): (
        "trainer.tasks.classification.task:Classification", "trainer.tasks.classification.several_heads:SeveralHeads",
    ),
    (SquaredError, AbsoluteError): ("trainer.tasks.regression.task:Regression",),
}  # fmt: skip
for kinds in TASKS:
    for kind in kinds:
        (LOSSES if issubclass(kind, LossSettings) else MODELS)[kind.name] = kind


def task_of(settings: Settings, heads: Sequence[Head] = (), members: Mapping[str, Member] | None = None) -> Task:
    """The task that the settings ask for, by their model or else their loss, on clips with these heads and members.

    Raises SettingsError where they do not go together.
    """
    asking = type(settings.model), type(settings.loss)
    places = next(places for kind in asking for kinds, places in TASKS.items() if kind in kinds)
    module, _, name = places[-1 if len(heads) > 1 else 0].partition(":")
    return getattr(importlib.import_module(module), name)(settings, heads, members or {})
