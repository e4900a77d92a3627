"""A Ray cluster of two machines on this one, for tests and campaigns; each has one core."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from builds import SMALL, make_job
from poison import make_poisoned

from shardify.build.encode import pack_videos
from shardify.errors import ShardifyError
from shardify.format.settings import BuildSettings

HOST = "127.0.0.2"  # with 127.0.0.1 drivers have hung


class Machines:
    """The head, and one more that can be lost and come again."""

    def __init__(self) -> None:
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": os.pathsep.join(sys.path)}  # which tasks inherit
        self._start()

    def _start(self) -> None:
        from ray.cluster_utils import Cluster

        self._second = None
        self._cluster = Cluster(initialize_head=True, head_node_args=self._one_core())
        self.address = self._cluster.address
        self.join()

    @staticmethod
    def _one_core() -> dict:
        return {
            "num_cpus": 1, "num_gpus": 0, "node_ip_address": HOST, "include_dashboard": False,
            "object_store_memory": 100 << 20,
        }  # fmt: skip

    def join(self) -> None:
        """The second machine is there afterwards."""
        if self._second is None:
            self._second = self._cluster.add_node(**self._one_core())
            self._cluster.wait_for_nodes()

    def lose(self) -> None:
        """The second machine is killed, with all that runs there."""
        node, self._second = self._second, None
        self._cluster.remove_node(node, allow_graceful=False)

    def lose_head(self) -> None:
        """The head is killed, with all that runs there; the second machine knows of no other."""
        self._cluster.remove_node(self._cluster.head_node, allow_graceful=False)

    def start_again(self) -> None:
        """Another cluster, with another address, is there afterwards."""
        self.close()
        self._start()

    def close(self) -> None:
        self._cluster.shutdown()


@contextlib.contextmanager
def two_machines() -> Iterator[Machines]:
    machines = Machines()
    try:
        yield machines
    finally:
        machines.close()


def pack_poisoned(paths: list[Path]) -> list[int | str]:
    """The clips of each video, some of which kill their process, as a task packs them."""
    jobs, settings = map(make_job, paths), BuildSettings(**SMALL)
    outcomes = pack_videos(jobs, settings, workers=1, timeout_seconds=60, pack=make_poisoned)
    return [outcome if isinstance(outcome, str) else len(outcome) for outcome in outcomes]


def begin_and_wait(folder: Path) -> int:
    """Work that says in the folder that it has begun, and goes on when it is told to there; how much was done."""
    (folder / f"begun-{os.getpid()}").touch()
    while not (folder / "go").exists():
        time.sleep(0.05)
    return 1


def differ(unit: object) -> None:
    """Work on a machine that differs."""
    raise ShardifyError("host has other libraries, or another kind of processor (av 0 there, 1 here)")


def task_processes() -> list[int]:
    """The processes that carry out a task, and those that they have started: those of builds, by process id."""
    found, parents = [], {}
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            command = (place / "cmdline").read_bytes()
            parents[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if command.startswith(b"ray::_call"):
                found.append(int(place.name))
    known = set(found)
    for pid in sorted(parents):
        above = pid
        while above in parents and above not in known:
            above = parents[above]
        if above in known:
            known.add(pid)
    return sorted(known)
