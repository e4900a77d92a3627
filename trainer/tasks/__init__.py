"""The registry of tasks: what can be learned, each in a folder of its own."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from trainer.config.settings import Settings
from trainer.errors import SettingsError

if TYPE_CHECKING:
    from trainer.tasks.base import Task

TASKS = {  # the values of loss.name that ask for a task: its class
    ("cross_entropy", "focal", "bce"): "trainer.tasks.classification.task:Classification",
    ("mse", "l1"): "trainer.tasks.regression.task:Regression",
}


def task_of(settings: Settings) -> Task:
    """The task that the settings ask for, by their loss. Raises SettingsError where they do not go together."""
    for losses, place in TASKS.items():
        if settings.loss.name in losses:
            module, _, name = place.partition(":")
            return getattr(importlib.import_module(module), name)(settings)
    known = ", ".join(loss for losses in TASKS for loss in losses)
    raise SettingsError(f"loss.name is {settings.loss.name!r}; it must be one of {known}")
