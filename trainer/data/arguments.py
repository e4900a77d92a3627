"""The options of ClipLoader and their checks: a mistake is named when the loader is made, not during a run."""

from __future__ import annotations

import dataclasses
import difflib
import logging
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shardify.format.members import Member
from shardify.text import printable
from trainer.config.settings import not_negative, positive, share
from trainer.data.cache import TIERS, private_memory
from trainer.data.order import epoch_order, interval_order
from trainer.errors import SettingsError
from trainer.shards.mix import open_all
from trainer.shards.shard_set import ShardSet

CHOICES = {"cache": ("auto", *TIERS), "on_error": ("stop", "skip")}
WHOLE = ("batch_size", "seed", "workers", "shuffle_shards", "rank", "world")


@dataclass(frozen=True, kw_only=True)
class LoaderOptions:
    """How clips are loaded. Raises SettingsError, which names the option."""

    batch_size: int = 16  # clips per step, over all ranks
    members: Collection[str] | None = None  # of each clip; None: the first one that the shards have
    device: torch.device | str = "cpu"
    shuffle: bool | None = None  # None: the train split only
    seed: int = 0
    cache: str = "none"  # where decoded clips stay after the first epoch: none | ram | device | auto
    workers: int = 0  # decoding threads; 0: one per core
    on_error: str = "stop"  # skip: the next clip replaces a damaged one; in evaluation it is masked
    max_errors: float = 0.01  # skip: the share of damaged clips at which loading stops all the same
    balanced: bool = False  # draw every class equally often
    pairs: bool = False  # draw each fake beside the original that it was made from
    weights: Sequence[float] | None = None  # how much of each of several shards folders an epoch takes; None: all clips
    shuffle_shards: int = 0  # mix clips within so many shards at a time, for slow disks; 0: over all clips
    steps: int | None = None  # in an epoch, which then ends anywhere in a pass over the clips; None: one whole pass
    numbers: np.ndarray | None = None  # of the clips, int64 (N,); None: all of the split
    rank: int = 0  # of this process
    world: int = 1  # processes that share each batch
    allot: Callable[[int], Tensor] = private_memory  # makes the memory of a cache in RAM, of so many bytes

    def __post_init__(self) -> None:
        for name in WHOLE:
            _check_whole(name, getattr(self, name))
        positive("batch_size", self.batch_size)
        positive("world", self.world)
        if self.steps is not None:
            _check_whole("steps", self.steps)
            positive("steps", self.steps)
        if self.rank >= self.world:
            raise SettingsError(f"rank is {self.rank}; with world={self.world} ranks count from 0 on")
        share("max_errors", self.max_errors)
        if self.weights is not None:
            object.__setattr__(self, "weights", _finite_weights(self.weights))
        for name in ("weights", "shuffle_shards", "balanced", "steps") if self.pairs else ():
            if getattr(self, name):
                raise SettingsError(f"pairs and {name} each say which clips come together; use one of them")
        if self.pairs and self.batch_size % 2:
            raise SettingsError(f"batch_size is {self.batch_size}; with pairs, which would be torn, it must be even")
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise SettingsError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(allowed)}")


# of options that a loader's state may lack, since the version that made it did not have them
DEFAULTS = {field.name: field.default for field in dataclasses.fields(LoaderOptions)}


def make_options(options: dict[str, Any]) -> LoaderOptions:
    """Raises SettingsError, for one that there is not with the nearest that there is."""
    known = [field.name for field in dataclasses.fields(LoaderOptions)]
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise SettingsError(f"unknown option {name} of ClipLoader; {hint}")
    return LoaderOptions(**options)


def shuffled_order(options: LoaderOptions, shards: ShardSet, numbers: np.ndarray, epoch: int) -> np.ndarray:
    """The order of these numbers in an epoch, int64 (N,): one pass over them, or so many steps of the options."""
    chosen_by = {
        "labels": shards.labels[numbers] if options.balanced else None,
        "folders": shards.folder_numbers[numbers] if options.weights else None,
        "weights": options.weights,
        "shards": shards.samples["shard"][numbers] if options.shuffle_shards else None,
        "shards_at_once": options.shuffle_shards,
    }
    one_pass = partial(epoch_order, numbers, options.seed, **chosen_by)
    if options.steps is None:
        return one_pass(epoch)
    return interval_order(one_pass, len(numbers), options.steps * options.batch_size, epoch)


def _finite_weights(values: Sequence[float]) -> list[float]:
    try:
        weights = [float(value) for value in values]
    except (TypeError, ValueError):
        weights = []
    if not weights or not all(0 <= weight < math.inf for weight in weights) or sum(weights) == 0:
        raise SettingsError(f"weights is {values!r}; a list of numbers is needed, 0 or more and not all 0")
    return weights


def _check_whole(name: str, value: Any) -> None:
    if not isinstance(value, Integral):
        raise SettingsError(f"{name} is {value!r}; a whole number is needed")
    not_negative(name, value)


def check_steps(steps: int | None, shuffle: bool) -> None:
    """Raises SettingsError where an epoch would be so many steps of an order that never changes."""
    if steps and not shuffle:
        raise SettingsError(f"steps is {steps}, but these clips are not shuffled; leave it out")


def check_position(state: dict[str, Any], own: dict[str, Any], num_steps: int) -> None:
    """A loader's state, whose order must be its `own` in the middle of an epoch. Raises SettingsError."""
    for name in ("epoch", "step"):
        _check_whole(f"the state's {name}", state.get(name))
    for name, value in own.items():
        theirs = state.get(name, DEFAULTS.get(name))  # of a version that did not have it
        if state["step"] and theirs != value:
            raise SettingsError(f"{name} is {value}, the state has {theirs}: make both alike, or set_epoch")
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


def choose_members(wanted: Collection[str] | None, shards: ShardSet) -> dict[str, Member]:
    """The members of these names, in this order; without names the shards' first one. Raises SettingsError."""
    names = [wanted] if isinstance(wanted, str) else wanted or [shards.first_member.name]
    for name in names:
        if name not in shards.members:
            raise SettingsError(f"members has {name!r}; the clips of {shards.name} have {', '.join(shards.members)}")
    return {name: shards.members[name] for name in names}


def check_numbers(numbers: np.ndarray, count: int) -> np.ndarray:
    """The numbers of clips, of which there are `count`. Raises SettingsError."""
    numbers = np.asarray(numbers)
    if numbers.dtype.kind not in "iu" or numbers.ndim != 1:
        raise SettingsError(f"numbers is {numbers.dtype} {numbers.shape}; clip numbers are needed, int64 (N,)")
    for wrong in numbers[(numbers < 0) | (numbers >= count)]:
        raise SettingsError(f"numbers has {wrong}; clips are numbered from 0 to {count - 1}")
    return numbers.astype(np.int64)


def open_and_tell(names: Path | str | list[Path | str]) -> ShardSet:
    """The shards of one name or several; what a user should know about them is logged as a warning."""
    shards = open_all(names)
    for note in shards.notes:
        logging.getLogger(__name__).warning("%s", printable(f"{shards.name}: {note}"))
    return shards
