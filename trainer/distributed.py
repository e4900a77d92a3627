"""Which device this process trains on, and what the processes of a group tell each other."""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from trainer.cache import private_memory
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

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Replace every rank's values by those of rank 0, in place."""
        if self.world == 1:
            return
        for tensor in tensors:
            values = tensor.detach().contiguous()
            dist.broadcast(values, 0)
            tensor.detach().copy_(values)

    def shared_memory(self, num_bytes: int) -> Tensor:
        """uint8 (num_bytes,), zeros: the same memory for all ranks of this machine. Every rank must call it.

        It has no name in any file system, so nothing is left however the processes end, and /dev/shm, which is small
        in containers, does not limit it.
        """
        if self.world == 1:
            return private_memory(num_bytes)
        descriptor, name = -1, ""
        if os.environ["LOCAL_RANK"] == "0":
            descriptor = os.memfd_create("clips")
            os.ftruncate(descriptor, num_bytes)
            name = f"/proc/{os.getpid()}/fd/{descriptor}"
        machine = os.environ.get("GROUP_RANK", "0")  # torchrun's number for it
        names = dict(filter(itemgetter(1), self.gather(np.array([[machine, name]], object))))
        if not name:
            descriptor = os.open(names[machine], os.O_RDWR)
        self.any(False)  # all have opened it
        memory = mmap.mmap(descriptor, num_bytes)
        os.close(descriptor)
        return torch.frombuffer(memory, dtype=torch.uint8)

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
    """Become the launcher of one process per GPU."""
    launcher = [sys.executable, "-m", "trainer.launcher", "--standalone", f"--nproc-per-node={count}"]
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
