"""Which device this process trains on, and what the processes of a group tell each other."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from trainer.errors import SettingsError


@dataclass(frozen=True)
class Group:
    """This process among those that train together."""

    rank: int
    world: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def gather(self, values: np.ndarray) -> np.ndarray:
        """Every rank's rows, in the order of the ranks."""
        if self.world == 1:
            return values
        parts: list = [None] * self.world
        dist.all_gather_object(parts, values)
        return np.concatenate(parts)

    def any(self, flag: bool) -> bool:
        """Whether any rank says so."""
        if self.world == 1:
            return flag
        votes = torch.tensor(int(flag), device=self.device)
        dist.all_reduce(votes, dist.ReduceOp.MAX)
        return bool(votes.item())


def num_devices(devices: str) -> int:
    """--devices auto | cpu | N → the number of GPUs to use, 0 for the CPU. Raises SettingsError."""
    available = torch.cuda.device_count()
    if devices == "auto":
        return available
    if devices == "cpu":
        return 0
    if not devices.isdigit() or int(devices) < 1:
        raise SettingsError(f"--devices is {devices}; it must be auto, cpu or a number of GPUs")
    if int(devices) > available:
        raise SettingsError(f"--devices is {devices}, but {available} GPUs can be used here; pass auto or cpu")
    return int(devices)


def relaunch(count: int, arguments: list[str], out: Path) -> None:
    """Become torch's own launcher with one process per GPU, unless it has started us already."""
    if count < 2 or "LOCAL_RANK" in os.environ:
        return
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    environment = {**os.environ, "TRAINER_OUT": str(out)}  # all of them write to the one folder chosen here
    os.execve(sys.executable, [*launcher, "-m", "trainer", *arguments], environment)


def join_group(use_gpu: bool) -> Group:
    """The group that torchrun has started, or this process alone."""
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device("cuda", local_rank) if use_gpu else torch.device("cpu")
    if use_gpu:
        torch.cuda.set_device(device)
    if "LOCAL_RANK" not in os.environ:
        return Group(0, 1, device)
    dist.init_process_group("nccl" if use_gpu else "gloo")
    return Group(dist.get_rank(), dist.get_world_size(), device)


def leave_group(group: Group) -> None:
    if group.world > 1:
        dist.destroy_process_group()
