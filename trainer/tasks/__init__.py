"""The registry of tasks: what can be learned, each in a folder of its own that brings its losses' settings."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from trainer.config.settings import LOSSES, Settings
from trainer.tasks.classification.settings import BinaryCrossEntropy, CrossEntropy, Focal
from trainer.tasks.regression.settings import AbsoluteError, SquaredError

if TYPE_CHECKING:
    from trainer.tasks.base import Task

TASKS = {  # the losses that ask for a task: its class
    (CrossEntropy, Focal, BinaryCrossEntropy): "trainer.tasks.classification.task:Classification",
    (SquaredError, AbsoluteError): "trainer.tasks.regression.task:Regression",
}
LOSSES.update({loss.name: loss for losses in TASKS for loss in losses})


def task_of(settings: Settings) -> Task:
    """The task that the settings ask for, by their loss. Raises SettingsError where they do not go together."""
    place = next(place for losses, place in TASKS.items() if type(settings.loss) in losses)
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)(settings)
