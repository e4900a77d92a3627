"""Train on two nodes, each with a launcher and a run folder of its own, on this machine; then lose one of them.

    python scripts/campaign_nodes.py [--resumes 10] [--seed 0] [--only WORDS]

Each line says whether it held, and how long it took. The resumed runs change between 1, 2 and 4 processes, and must
see the clips of an undisturbed run in the same order. The network is cut between two network namespaces, which takes
root; that line is left out elsewhere. Exit code 1 if anything failed.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from campaign_kill import make_video

SMALL = {
    "batch_size": 8, "model.backbone": "tiny", "model.weights": "none", "model.lstm_hidden": 8,
    "model.attention_heads": 2, "data.cache": "ram", "checkpoint_every_steps": 1,
}  # fmt: skip
ENDLESS = ("epochs=100000",)
CUT_SECONDS = 15  # that an exchange may take where the network is cut, instead of ten minutes
CUT = f"""
import datetime, sys
from trainer.devices import distributed
from trainer.__main__ import main
distributed.TIMEOUT = datetime.timedelta(seconds={CUT_SECONDS})
main()
"""


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


def make_shards(folder: Path, videos: int = 44) -> Path:
    from shardify.build.build import build
    from shardify.build.request import BuildRequest
    from shardify.format.settings import BuildSettings

    for i in range(videos):
        make_video(folder / "data" / ("real", "fake")[i % 2] / f"v{i:02d}.mp4", i)
    build(BuildRequest(folder / "data", folder / "shards", BuildSettings(frames=4, size=32, shard_size=6)))
    return folder / "shards"


def separate_folders(folder: Path, shards: Path) -> None:
    nodes = Nodes(folder, shards, "epochs=2")
    assert nodes.ends(240) == [0, 0], nodes.said(0) + nodes.said(1)
    assert (folder / "node-0/runs/run/results/experiment_results.json").is_file(), "results on node 0"
    assert os.listdir(folder / "node-1") == ["log"], "nothing on node 1"
    assert not nodes.errors(0) + nodes.errors(1)


def stopped_and_resumed(folder: Path, shards: Path, node: int) -> None:
    nodes = Nodes(folder, shards, *ENDLESS)
    nodes.wait_for("epoch 2/")
    nodes.processes[node].send_signal(signal.SIGTERM)
    assert nodes.ends(60) == [75, 75], nodes.said(0) + nodes.said(1)
    assert len(nodes.errors(0)) == 1 and not nodes.errors(1), nodes.errors(0) + nodes.errors(1)
    checkpoints = folder / "node-0/runs/run/checkpoints"
    newest = max(path.name for path in checkpoints.iterdir())
    resumed = Nodes(folder, shards, *ENDLESS, "max_hours=0.0001", arguments=("--resume",))
    assert resumed.ends(120) == [75, 75], resumed.said(0) + resumed.said(1)
    assert "resuming at epoch" in resumed.said(0)
    assert max(path.name for path in checkpoints.iterdir()) > newest
    assert os.listdir(folder / "node-1") == ["log"]


def killed(folder: Path, shards: Path, node: int) -> None:
    nodes = Nodes(folder, shards, *ENDLESS)
    nodes.wait_for("epoch 2/")
    nodes.kill(node)
    assert nodes.ends(60, (1 - node,)) == [1]
    assert len(nodes.errors(1 - node)) == 1, nodes.said(1 - node)


def different(folder: Path, shards: Path, **options) -> None:
    nodes = Nodes(folder, shards, **options)
    assert nodes.ends(120) == [1, 1], nodes.said(0) + nodes.said(1)
    for node in range(2):
        assert len(nodes.errors(node)) == 1, nodes.said(node)
        assert "has other settings or files than process 0" in nodes.errors(node)[0]


def other_shards(folder: Path, shards: Path) -> None:
    different(folder, shards, own_shards={1: make_shards(folder / "other", videos=40)})


def other_settings(folder: Path, shards: Path) -> None:
    different(folder, shards, own={1: ("optimizer.lr=0.5",)})


def cut_network(folder: Path, shards: Path) -> None:
    program = folder / "with_a_short_timeout.py"
    folder.mkdir(parents=True)
    program.write_text(CUT)
    with two_networks() as (namespaces, cut):
        nodes = Nodes(folder, shards, *ENDLESS, namespaces=namespaces, program=(program,))
        nodes.wait_for("epoch 2/")
        cut()
        assert nodes.ends(CUT_SECONDS + 30) == [1, 1], nodes.said(0) + nodes.said(1)
        for node in range(2):
            assert len(nodes.errors(node)) == 1, nodes.said(node)


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


def train_part(rank: int, world: int, port: int, shards: Path, out: Path, stop: tuple[int, int] | None) -> None:
    """Train as a rank of a group until `stop`, (step from here on, rank that is told to end); writes what it saw."""
    import torch

    from trainer.config.load import load_settings
    from trainer.devices.distributed import joined_group
    from trainer.engine.engine import Engine
    from trainer.errors import Interrupted
    from trainer.train import train

    torch.set_num_threads(1)
    if world > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    seen, train_step = [], Engine.train_step

    def noted(engine, batch, epoch, step, sums) -> None:
        if stop and stop == (len(seen), rank):
            os.kill(os.getpid(), signal.SIGTERM)
        seen.append([epoch, step, batch.numbers[batch.mask].tolist()])
        train_step(engine, batch, epoch, step, sums)

    Engine.train_step = noted
    overrides = tuple(f"{name}={value}" for name, value in (SMALL | {"epochs": 3}).items())
    with joined_group(use_gpu=False) as group, contextlib.suppress(Interrupted):
        train(load_settings(None, overrides), shards, out / f"machine-{rank}", group, resume=True)
    (out / f"seen-{rank}.json").write_text(json.dumps(seen))


def run_part(world: int, shards: Path, out: Path, stop: tuple[int, int] | None) -> list[list]:
    """[epoch, step, the numbers of its clips in their order] of each step that so many processes have trained."""
    port, context = free_port(), multiprocessing.get_context("fork")
    ranks = [context.Process(target=train_part, args=(rank, world, port, shards, out, stop)) for rank in range(world)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(180)
        rank.kill()
    assert [rank.exitcode for rank in ranks] == [0] * world
    parts = [json.loads((out / f"seen-{rank}.json").read_text()) for rank in range(world)]
    return [[*steps[0][:2], [number for step in steps for number in step[2]]] for steps in zip(*parts, strict=True)]


def resumed_over_processes(folder: Path, shards: Path, resumes: int, seed: int) -> None:
    """Each of `resumes` runs is stopped twice, and goes on with another number of processes."""
    (folder / "alone").mkdir(parents=True)
    whole = run_part(1, shards, folder / "alone", None)
    assert len(whole) > 9 and (folder / "alone/machine-0/results/experiment_results.json").is_file()
    for number in range(resumes):
        draw = random.Random(f"{seed}:{number}")
        worlds, out, seen = draw.sample((1, 2, 4), 3), folder / str(number), []
        out.mkdir()
        for place, world in enumerate(worlds):
            stop = (draw.randrange(1, 5), draw.randrange(world)) if place < 2 else None
            part = run_part(world, shards, out, stop)
            seen += part
        assert seen == whole, (worlds, seen, whole)
        assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["machine-0"]


@click.command()
@click.option("--resumes", default=10, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--only", default="", help="Only the lines with these words.")
def main(resumes: int, seed: int, only: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        shards = make_shards(work)
        lines = {
            "separate run folders": separate_folders,
            "SIGTERM on node 0, and resumed": lambda *paths: stopped_and_resumed(*paths, node=0),
            "SIGTERM on node 1, and resumed": lambda *paths: stopped_and_resumed(*paths, node=1),
            "node 0 killed": lambda *paths: killed(*paths, node=0),
            "node 1 killed": lambda *paths: killed(*paths, node=1),
            "other settings on node 1": other_settings,
            "other shards on node 1": other_shards,
            f"{resumes} runs resumed over 1, 2 and 4 processes": lambda *paths: resumed_over_processes(
                *paths, resumes, seed
            ),
        }
        if os.geteuid() == 0 and shutil.which("ip"):
            lines["network cut"] = cut_network
        else:
            click.echo("left out  network cut: network namespaces take root and the program ip")
        failed = 0
        for number, (name, check) in enumerate(lines.items()):
            if only not in name:
                continue
            start, why = time.monotonic(), ""
            try:
                check(work / str(number), shards)
            except (AssertionError, subprocess.SubprocessError) as error:
                failed, why = failed + 1, f"\n{type(error).__name__}: {error}"
            click.echo(f"{'failed' if why else 'ok':8}  {time.monotonic() - start:5.1f} s  {name}{why}")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
