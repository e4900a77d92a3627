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
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import torch
from campaign_kill import make_video
from two_nodes import SMALL, Nodes, free_port, two_networks, why_no_networks

from trainer.config.load import load_settings
from trainer.devices.distributed import joined_group
from trainer.engine.engine import Engine
from trainer.errors import Interrupted
from trainer.train import train

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))
from runs import quick_results

ENDLESS = ("epochs=100000",)
CUT_SECONDS = 15  # that an exchange may take where the network is cut, instead of ten minutes
CUT = f"""
import datetime, sys
from trainer.devices import distributed
from trainer.__main__ import main
distributed.TIMEOUT = datetime.timedelta(seconds={CUT_SECONDS})
main()
"""


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


def train_part(rank: int, world: int, port: int, shards: Path, out: Path, stop: tuple[int, int] | None) -> None:
    """Train as a rank of a group until `stop`, (step from here on, rank that is told to end); writes what it saw."""
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
    with quick_results(), joined_group(use_gpu=False) as group, contextlib.suppress(Interrupted):
        train(load_settings(None, overrides), shards, out / f"machine-{rank}", group, resume=True)
    (out / f"seen-{rank}.json").write_text(json.dumps(seen))


def run_part(world: int, shards: Path, out: Path, stop: tuple[int, int] | None) -> list[list]:
    """[epoch, step, the numbers of its clips in their order] of each step that so many processes have trained."""
    port, context = free_port(), multiprocessing.get_context("fork")
    ranks = [context.Process(target=train_part, args=(rank, world, port, shards, out, stop)) for rank in range(world)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(600)
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
    torch.set_num_threads(1)
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
        if why := why_no_networks():
            click.echo(f"left out  network cut: {why}")
        else:
            lines["network cut"] = cut_network
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
