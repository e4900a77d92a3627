"""The group of processes that train together: the device of each, and what they exchange."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import mmap
import os
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from shardify.errors import ShardifyError
from trainer.data.cache import private_memory
from trainer.errors import GroupError, SettingsError, TrainerError, first_sentence, is_lost_process

T = TypeVar("T")

TIMEOUT = timedelta(minutes=10)  # of one exchange; the first compiled steps differ by less between machines
POLL_SECONDS = 0.05  # how often a process asks whether the main one has finished


@dataclass(frozen=True)
class Group:
    """The group of processes that train together, and the place of this one in it."""

    rank: int
    world: int
    device: torch.device
    store: dist.Store | None = None  # small values by name, where there are several processes
    _waits: Iterator[int] = field(default_factory=itertools.count, compare=False, repr=False)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def gather(self, values: np.ndarray) -> np.ndarray:
        """Every rank's rows, in the order of the ranks."""
        return np.concatenate(self.gather_objects(values)) if self.world > 1 else values

    def gather_objects(self, value: T) -> list[T]:
        """Every rank's value, in the order of the ranks."""
        values: list[Any] = [value] * self.world
        if self.world > 1:
            dist.all_gather_object(values, value)
        return values

    def of_main(self, value: T | None) -> T | None:
        """The main rank's value, on every rank."""
        box = [value]
        if self.world > 1:
            dist.broadcast_object_list(box, 0)
        return box[0]

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Replace every rank's values by those of rank 0, in place."""
        if self.world == 1:
            return
        for tensor in tensors:
            values = tensor.detach().contiguous()
            dist.broadcast(values, 0)
            tensor.detach().copy_(values)

    def shared_memory(self, num_bytes: int) -> Tensor:
        """Memory of zeros, uint8 (num_bytes,), the same for all ranks of this machine. Every rank must call it.

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
        """Whether the flag is set on any rank."""
        return bool(self.largest(int(flag))[0])

    def largest(self, *values: int) -> list[int]:
        """Of each value the largest of all ranks."""
        if self.world == 1:
            return list(values)
        votes = torch.tensor(values, device=self.device)
        dist.all_reduce(votes, dist.ReduceOp.MAX)
        return votes.tolist()

    @contextlib.contextmanager
    def failing_together(self) -> Iterator[None]:
        """What stops one rank in this block stops all at its end, instead of leaving the others to wait for it.

        Nothing in the block may wait for another rank, but by a block that all of them leave, whatever happens. Raises
        GroupError with the first such rank's reason and exit code; alone, where another process is lost, and for a
        fault of the program on the rank that has it, the error itself.
        """
        failure: Exception | None = None
        try:
            yield
        except Exception as error:
            if self.world == 1 or is_lost_process(error):  # with another one lost, nothing can be exchanged
                raise
            failure = error
        if self.world == 1:
            return
        reasons = self.gather_objects(_reason(failure))
        if failure and not isinstance(failure, (ShardifyError, OSError)):
            raise failure
        if any(reasons):
            rank, (line, exit_code, host) = next((rank, reason) for rank, reason in enumerate(reasons) if reason)
            is_everywhere = len({reason and reason[0] for reason in reasons}) == 1
            raise GroupError(line if is_everywhere else f"process {rank} on {host}: {line}", exit_code) from failure

    @contextlib.contextmanager
    def waiting_for_main(self) -> Iterator[None]:
        """The others wait at this block's end until the main rank has left it, longer than TIMEOUT if need be.

        Raises GroupError on the others where the main rank has failed in it.
        """
        name, reason = f"left {next(self._waits)}", None
        try:
            yield
        except BaseException as error:  # Ctrl-C among them
            reason = _reason(error)
            raise
        finally:
            if self.world > 1 and self.is_main:
                self.store.set(name, json.dumps(reason))
                self.any(False)  # all know it: the store may end with this process
        if not self.is_main:
            while not self.store.check([name]):
                time.sleep(POLL_SECONDS)
            reason = json.loads(self.store.get(name))
            self.any(False)
            if reason:
                line, exit_code, host = reason
                raise GroupError(f"process 0 on {host}: {line}", exit_code)

    @contextlib.contextmanager
    def waiting_for_all(self) -> Iterator[None]:
        """All wait at this block's end until every rank has left it, longer than TIMEOUT if need be.

        What stops one rank in it stops all, as of `failing_together`.
        """
        name, failure = f"left by all {next(self._waits)}", None
        with self.failing_together():
            try:
                yield
            except Exception as error:
                failure = error
            if self.world > 1:
                self.store.add(name, 1)
                while self.store.add(name, 0) < self.world:
                    time.sleep(POLL_SECONDS)
            if failure:
                raise failure

    def check_same(self, facts: dict[str, Any]) -> None:
        """Raises GroupError, naming rank, host and what differs, unless all ranks have the same facts."""
        hosts, everywhere = zip(*self.gather_objects((socket.gethostname(), facts)), strict=True)
        for rank, others in enumerate(everywhere):
            differing = [name for name in facts if others.get(name) != everywhere[0].get(name)]
            if differing:
                shown = ", ".join(
                    f"{name} {others.get(name)} instead of {everywhere[0].get(name)}" for name in differing
                )
                raise GroupError(
                    f"process {rank} on {hosts[rank]} has other settings or files than process 0 on {hosts[0]}: "
                    f"{shown}; all need the same command, shards and weights",
                    TrainerError.exit_code,
                )


def _reason(failure: Exception | None) -> tuple[str, int, str] | None:
    """One line, exit code and host."""
    if failure is None:
        return None
    is_known = isinstance(failure, (ShardifyError, OSError))
    line = str(failure) if is_known else f"{type(failure).__name__}: {failure}"
    return line, getattr(failure, "exit_code", TrainerError.exit_code), socket.gethostname()


def num_devices(devices: str) -> int:
    """The number of GPUs that --devices (auto | cpu | N) asks for, 0 for the CPU. Raises SettingsError."""
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


@contextlib.contextmanager
def joined_group(use_gpu: bool) -> Iterator[Group]:
    """The group that the launcher has started, for as long as the block takes.

    Raises GroupError where another of its processes has ended or does not answer.
    """
    try:
        group = join_group(use_gpu)
        try:
            yield group
        finally:
            leave_group(group)
    except RuntimeError as error:
        if not is_lost_process(error):
            raise
        raise GroupError(
            f"another process of the run has ended or does not answer ({first_sentence(error)}); start all again with "
            f"--resume, which continues from the newest checkpoint",
            TrainerError.exit_code,
        ) from error


def join_group(use_gpu: bool) -> Group:
    """The group that the launcher has started, or this process alone; its main process alone shows messages."""
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device("cuda", local_rank) if use_gpu else torch.device("cpu")
    if use_gpu:
        torch.cuda.set_device(device)
    if "LOCAL_RANK" not in os.environ:
        return Group(0, 1, device)
    store, rank, world = next(rendezvous("env://", timeout=TIMEOUT))
    dist.init_process_group("nccl" if use_gpu else "gloo", store=store, rank=rank, world_size=world, timeout=TIMEOUT)
    group = Group(rank, world, device, store)
    if not group.is_main:
        logging.getLogger("trainer").setLevel(logging.ERROR)  # all processes have the same messages
    return group


def leave_group(group: Group) -> None:
    if group.world > 1:
        dist.destroy_process_group()
