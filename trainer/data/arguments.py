"""The checks of ClipLoader's arguments: a mistake is named when the loader is made, not during a run."""

from __future__ import annotations

import logging
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shardify.text import printable
from trainer.config.settings import not_negative, positive, share
from trainer.data.cache import TIERS
from trainer.data.shard_set import ShardSet, open_shards
from trainer.errors import SettingsError

CHOICES = {"cache": ("auto", *TIERS), "on_error": ("stop", "skip")}
WHOLE = ("batch_size", "seed", "workers", "shuffle_shards", "rank", "world")


def check_arguments(arguments: dict[str, Any]) -> None:
    """Raises SettingsError, which names the argument."""
    for name in WHOLE:
        _check_whole(name, arguments[name])
    positive("batch_size", arguments["batch_size"])
    positive("world", arguments["world"])
    if arguments["rank"] >= arguments["world"]:
        raise SettingsError(f"rank is {arguments['rank']}; with world={arguments['world']} ranks count from 0 on")
    share("max_errors", arguments["max_errors"])
    for name, allowed in CHOICES.items():
        if arguments[name] not in allowed:
            raise SettingsError(f"{name} is {arguments[name]!r}; choose one of {', '.join(allowed)}")


def _check_whole(name: str, value: Any) -> None:
    if not isinstance(value, Integral):
        raise SettingsError(f"{name} is {value!r}; a whole number is needed")
    not_negative(name, value)


def check_position(state: dict[str, Any], own: dict[str, Any], num_steps: int) -> None:
    """A loader's state, whose order must be its `own` in the middle of an epoch. Raises SettingsError."""
    for name in ("epoch", "step"):
        _check_whole(f"the state's {name}", state.get(name))
    for name, value in own.items():
        if state["step"] and state.get(name) != value:
            raise SettingsError(f"{name} is {value}, the state has {state.get(name)}: make both alike, or set_epoch")
    if state["step"] >= num_steps:
        raise SettingsError(f"the state's step is {state['step']}; an epoch has {num_steps} steps, counted from 0")


def check_device(wanted: torch.device | str) -> torch.device:
    """A CPU, or a GPU that is there. Raises SettingsError."""
    try:
        device = torch.device(wanted)
    except (RuntimeError, TypeError) as error:
        raise SettingsError(f"device is {wanted!r}; choose cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise SettingsError(f"device is {device}; clips are loaded to cpu or cuda, and can be moved on from there")
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise SettingsError(f"device is {device}, but torch finds {count} GPUs here; use cpu, or run shardify doctor")
    return device


def check_numbers(numbers: np.ndarray, count: int) -> np.ndarray:
    """The numbers of clips, of which there are `count`. Raises SettingsError."""
    numbers = np.asarray(numbers)
    if numbers.dtype.kind not in "iu" or numbers.ndim != 1:
        raise SettingsError(f"numbers is {numbers.dtype} {numbers.shape}; clip numbers are needed, int64 (N,)")
    for wrong in numbers[(numbers < 0) | (numbers >= count)]:
        raise SettingsError(f"numbers has {wrong}; clips are numbered from 0 to {count - 1}")
    return numbers.astype(np.int64)


def open_and_tell(name: Path | str) -> ShardSet:
    """The shards of that name; what a user should know about them is logged as a warning."""
    shards = open_shards(name)
    for note in shards.notes:
        logging.getLogger(__name__).warning("%s", printable(f"{shards.folder}: {note}"))
    return shards
