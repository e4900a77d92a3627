"""Two nodes on this machine that train together, and two networks between which the way can be cut."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SMALL = {
    "batch_size": 8, "model.backbone": "tiny", "model.weights": "none", "model.lstm_hidden": 8,
    "model.attention_heads": 2, "data.cache": "ram", "checkpoint_every_steps": 1,
}  # fmt: skip


class Nodes:
    """Two nodes that train together, node N in the folder `node-N` below one folder."""

    def __init__(self, folder: Path, shards: Path, *overrides: str, arguments: tuple = (), **options) -> None:
        """arguments: of `python -m trainer`. options: own_shards and own overrides by node, program, namespaces."""
        hosts = options.get("namespaces")
        port, address = free_port(), "10.77.0.1" if hosts else "127.0.0.1"
        program = options.get("program", ("-m", "trainer"))
        self.folder = folder
        self.processes = []
        for node in range(2):
            place = folder / f"node-{node}"
            place.mkdir(parents=True, exist_ok=True)
            settings = [*(f"{name}={value}" for name, value in SMALL.items()), *overrides]
            settings += options.get("own", {}).get(node, ())
            command = [
                *(("ip", "netns", "exec", hosts[node]) if hosts else ()),
                sys.executable, "-m", "trainer.devices.launch", "--nnodes=2", f"--node-rank={node}",
                "--nproc-per-node=1", f"--master-addr={address}", f"--master-port={port}", *program,
                "--shards", options.get("own_shards", {}).get(node, shards), "--devices", "cpu", *arguments,
                *(part for text in settings for part in ("--set", text)),
            ]  # fmt: skip
            log = open(place / "log", "w")  # noqa: SIM115 (the process holds it)
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "NODE": f"{os.getpid()}-{node}"}
            environment |= {"GLOO_SOCKET_IFNAME": "veth"} if hosts else {}
            self.processes.append(
                subprocess.Popen(
                    list(map(str, command)), cwd=place, stdout=log, stderr=log, env=environment, start_new_session=True
                )
            )

    def said(self, node: int) -> str:
        return (self.folder / f"node-{node}" / "log").read_text(errors="replace")

    def wait_for(self, words: str, node: int = 0) -> None:
        while words not in self.said(node):
            if self.processes[node].poll() is not None:
                raise AssertionError(f"node {node} has ended:\n{self.said(node)}")
            time.sleep(0.1)

    def kill(self, node: int) -> None:
        """As without power, but that the other side is told that the connection is gone."""
        for pid in processes_of(node):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def ends(self, seconds: float, nodes: tuple[int, ...] = (0, 1)) -> list[int]:
        """Their exit codes; none has a traceback, and nothing of them runs on."""
        deadline = time.monotonic() + seconds
        try:
            codes = [self.processes[node].wait(max(deadline - time.monotonic(), 0.1)) for node in nodes]
        finally:
            left = [pid for node in nodes for pid in processes_of(node)]
            for node in range(2):
                self.kill(node)
        said = [self.said(node) for node in nodes]
        assert not left, f"still running: {left}"
        assert not any(word in text for text in said for word in ("Traceback", "frame #", "ChildFailed")), said
        return codes

    def errors(self, node: int) -> list[str]:
        return [line for line in self.said(node).splitlines() if line.startswith("error")]


def processes_of(node: int) -> list[int]:
    """By their environment: the launcher gives each process a session of its own."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_dead = (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            if not is_dead and f"NODE={os.getpid()}-{node}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def why_no_networks() -> str:
    """Why two networks cannot be made here; empty where they can."""
    try:
        with two_networks():
            return ""
    except FileNotFoundError:
        return "the program ip is not installed (iproute2)"
    except subprocess.CalledProcessError as error:
        return error.stderr.strip() or str(error)


@contextlib.contextmanager
def two_networks() -> Iterator[tuple[tuple[str, str], Callable[[], None]]]:
    """The names of two network namespaces that reach each other, and a function that ends that without a word."""
    names = tuple(f"node-{os.getpid()}-{node}" for node in range(2))

    def ip(*arguments: str) -> None:
        subprocess.run(("ip", *arguments), check=True, capture_output=True, text=True)

    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "veth", "netns", names[0], "type", "veth", "peer", "name", "veth", "netns", names[1])
        for node, name in enumerate(names):
            ip("-n", name, "address", "add", f"10.77.0.{node + 1}/24", "dev", "veth")
            for link in ("lo", "veth"):
                ip("-n", name, "link", "set", link, "up")
        yield names, lambda: ip("-n", names[1], "route", "replace", "blackhole", "10.77.0.0/24", "metric", "0")
    finally:
        for name in names:
            subprocess.run(("ip", "netns", "delete", name), capture_output=True)
