"""The choice of `batch_size: auto`: the largest batch whose steps, really taken, fit into the GPU's memory."""

from __future__ import annotations

import copy
import dataclasses
import gc
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from shardify.machine import is_out_of_memory
from trainer.config.settings import Settings
from trainer.data.arguments import choose_members
from trainer.data.batches import Batch, empty_values, presence
from trainer.devices.distributed import Group
from trainer.engine.assemble import make_engine
from trainer.errors import SettingsError
from trainer.shards.shard_set import ShardSet

MEMORY_SHARE = 0.85  # the rest is for fragments, and for batches under way to the device
ON_A_CPU = 16  # clips; there is no memory of its own to fill
MOST = 256  # clips per device; larger batches do not learn faster at the default learning rate
LEAST_STEPS = 10  # per epoch, so that a small data set is still learned in a few epochs
STEPS = 2  # of a trial: the optimizer's state is there from the second one on


def choose_batch_size(
    settings: Settings, shards: ShardSet, numbers: np.ndarray, model: nn.Module, group: Group, cache_bytes: int
) -> tuple[int, str]:
    """Clips per step over all devices, and a line for the user that gives the reason.

    numbers: of the clips to train on; cache_bytes: that decoded clips will take on the device.
    Raises SettingsError where not even one clip fits; GroupError on all ranks where that is so on one of several.
    """
    most = max(1, min(MOST, len(numbers) // LEAST_STEPS // group.world))
    if group.device.type != "cuda":
        size = rounded(min(ON_A_CPU, most) * group.world, settings)
        return size, f"batch_size auto: {size}, as on any CPU; memory is measured on GPUs only"
    free_bytes = torch.cuda.mem_get_info(group.device)[0] + torch.cuda.memory_reserved(group.device)
    budget_bytes = MEMORY_SHARE * free_bytes - cache_bytes

    def fits(size: int) -> bool:
        return peak_bytes(settings, shards, numbers, model, group.device, size) <= budget_bytes

    with group.failing_together():
        mine = largest_fitting(fits, most)
    size = rounded(int(group.gather(np.array([mine])).min()) * group.world, settings)
    allowed = f"{budget_bytes / 1e9:.1f} GB of the GPU's memory allow"
    if 2 * mine > most:
        allowed = f"{LEAST_STEPS} steps an epoch and {MOST} clips per device at most; {allowed} more"
    return size, f"batch_size auto: {size} clips ({allowed})"


def rounded(size: int, settings: Settings) -> int:
    """The size, with data.pairs an even one, which tears none of them."""
    return max(2, size // 2 * 2) if settings.data.pairs else size


def largest_fitting(fits: Callable[[int], bool], most: int) -> int:
    """The largest power of two, at most `most`, that fits. Raises SettingsError where 1 does not."""
    size = 1 << min(3, most.bit_length() - 1)  # start at 8
    if fits(size):
        while 2 * size <= most and fits(2 * size):
            size *= 2
        return size
    while size > 1:
        size //= 2
        if fits(size):
            return size
    raise SettingsError(
        "batch_size auto: not even one clip fits into the GPU's memory; use a smaller data.size, data.frames or "
        "model.backbone, or model.gradient_checkpointing=true"
    )


def peak_bytes(
    settings: Settings, shards: ShardSet, numbers: np.ndarray, model: nn.Module, device: torch.device, size: int
) -> float:
    """What whole training steps on `size` clips take at most, on a copy of the model; infinite where they cannot.

    Weights, statistics, gradients and the random state stay as they are. On a CPU, whose memory is not measured: 0.
    """
    on_gpu = device.type == "cuda"
    try:
        with torch.random.fork_rng([device] if on_gpu else []):
            if on_gpu:
                torch.cuda.reset_peak_memory_stats(device)
            take_steps(settings, shards, numbers, copy.deepcopy(model), device, size)
            return torch.cuda.max_memory_allocated(device) if on_gpu else 0.0
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return float("inf")
    finally:
        if on_gpu:
            gc.collect()  # checkpointed blocks refer to themselves
            torch.cuda.empty_cache()


def take_steps(
    settings: Settings, shards: ShardSet, numbers: np.ndarray, model: nn.Module, device: torch.device, size: int
) -> None:
    """Forward, backward and step on random clips, with all stages learning. Raises torch.OutOfMemoryError."""
    settings = dataclasses.replace(settings, batch_size=size)
    engine = make_engine(settings, shards, numbers, model, Group(0, 1, device))
    engine.begin_epoch(settings.rounds - 1)
    members = choose_members(engine.task.read_members(shards), shards)
    values = {name: made.zero_() for name, made in empty_values(members, size, device=device).items()}
    for made in values.values():
        if made.dtype == torch.uint8:  # pixels
            made.random_(0, 256)
    chosen = np.resize(numbers, size)
    seeds = np.stack((chosen, np.arange(size)), axis=1)
    arranged = {name: member.arrange(values[name]) for name, member in members.items()}
    arranged |= presence(shards.samples, members, chosen, device)
    batch = Batch(arranged, chosen, np.ones(size, bool), seeds)
    sums = engine.new_sums()
    for _ in range(STEPS):
        engine.guard.keep()
        engine.update(engine.step_gradients(batch, 0, 0), sums)
