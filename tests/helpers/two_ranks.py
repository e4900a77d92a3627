"""Two processes of one group, and what they do in one start: share a cache, train together, and apart."""

import json
import multiprocessing
import os
import shutil
import signal
import socket
import zlib

import torch
from heads import step_gradients, with_side
from loading import like
from runs import Stopping, run_small

from shardify.errors import ShardifyError
from trainer import ClipLoader
from trainer.devices.distributed import join_group, leave_group
from trainer.errors import TrainerError, is_lost_process
from trainer.shards.shard_set import ShardSet, open_shards
from trainer.tasks.base import Task

ALIKE = (  # with batch norm frozen, as one process trains; a stage of the backbone thaws on the way
    "batch_size=6", "accumulate=2", "model.batch_norm=frozen", "model.freeze=backbone", "model.unfreeze_every=1",
    "model.dropout=0", "optimizer.lr=1e-3", "epochs=3", "ema=0.5",
)  # fmt: skip


class CountedShards(ShardSet):
    reads = 0

    def read(self, number, names=(), checked=None):
        CountedShards.reads += 1
        return super().read(number, names, checked)


def share_a_cache(folder, group):
    """What each of three epochs has read, and what its batches held."""
    shards = like(CountedShards, open_shards(folder))
    clip_loader = ClipLoader(
        shards, batch_size=4, cache="ram", rank=group.rank, world=group.world, allot=group.shared_memory
    )
    epochs = []
    for epoch in range(3):
        reads, batches = CountedShards.reads, list(clip_loader.batches(epoch))
        epochs.append(
            {
                "numbers": [batch.numbers[batch.mask].tolist() for batch in batches],
                "pixels": [zlib.crc32(clip.numpy().tobytes()) for batch in batches for clip in batch.clips],
                "reads": CountedShards.reads - reads,
            }
        )
        group.any(False)  # as at the end of an epoch of training: nobody goes on before all are done
    clip_loader.close()
    return {"epochs": epochs, "hit_rate": clip_loader.hit_rate}


def train_apart(shards, folder, group):
    """How each run ended, as if each rank stood on a machine of its own: its best epoch, or its error."""
    mine, other = folder / f"machine-{group.rank}", group.rank == 1
    ends = {}

    def run(name, *overrides, shards=shards, out=None, **options):
        own = ("model.name=runs:Stopping", "epochs=1", *overrides)
        try:
            ends[name] = run_small(shards, mine / (out or name), *own, group=group, **options)["best_epoch"]
        except ShardifyError as error:
            ends[name] = [type(error).__name__, error.exit_code, str(error)]

    run("first")
    run("resumed", "epochs=2", out="first", resume=True)
    if not other:
        shutil.copytree(mine / "first", mine / "unwritable")
        (mine / "unwritable" / "results" / "training_history.csv").unlink()
        (mine / "unwritable" / "results" / "training_history.csv").mkdir()
    run("unwritable", "epochs=3", resume=True)
    run("settings", f"optimizer.clip_norm={1 + group.rank}")
    run("shards", shards=folder / "nowhere" if other else shards)
    if other:
        (mine / "taken").mkdir(parents=True)
    else:
        (mine / "taken" / "results").mkdir(parents=True)
    run("taken")
    if other:
        split_figures = Task.split_figures
        Task.split_figures = lambda *arguments: (found := split_figures(*arguments)) | {"loss": -found["loss"]}
    run("unlike", "epochs=2", "metric=loss")
    run("over", "epochs=1000000", "max_hours=0.0001")
    Stopping.stop_at = 0 if other else -1
    run("stopped", "epochs=3")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return ends


def wait_for_main(group):
    """How the ranks leave two blocks in which the main one has work: its own line, or the error that it ends with."""
    ends = []
    for fails in (False, True):
        try:
            with group.waiting_for_main():
                if fails and group.is_main:
                    raise TrainerError("the disk is full")
            ends.append("went on")
        except TrainerError as error:
            ends.append(str(error))
    return ends


def wait_for_all(group):
    """As `wait_for_main`, where the other rank has work."""
    ends = []
    for fails in (False, True):
        try:
            with group.waiting_for_all():
                if fails and not group.is_main:
                    raise TrainerError("no room")
            ends.append("went on")
        except TrainerError as error:
            ends.append(str(error))
    return ends


def join(rank, port):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TRAINER_OUT": ""}
    return join_group(use_gpu=False)


def lose_the_other(rank, folder, port):
    """Rank 1 ends without a word; what rank 0 makes of it goes into a file."""
    group = join(rank, port)
    memory = group.shared_memory(1 << 20)
    memory[rank] = 1
    group.any(False)
    if rank == 1:
        os._exit(0)
    try:
        group.any(False)
    except RuntimeError as error:
        (folder / "said").write_text(f"{is_lost_process(error)}: {error}")


def run_rank(rank, shards, folder, port):
    """Writes `rank`.json below the folder."""
    group = join(rank, port)
    said = {"shared": share_a_cache(shards, group)}
    gradients, sums = step_gradients(with_side(open_shards(shards)), 2, group)
    said |= {"gradients": [values.tolist() for values in gradients], "sums": sums}
    run_small(shards, folder / "together", *ALIKE, group=group)
    said["ends"] = train_apart(shards, folder, group)
    said["waited"] = wait_for_main(group)
    said["waited for all"] = wait_for_all(group)
    (folder / f"{rank}.json").write_text(json.dumps(said))
    leave_group(group)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def in_two_processes(target, *arguments):
    """Call `target(rank, …)` for the ranks 0 and 1, each in a process of its own that must end well."""
    # a fork imports nothing again, but where there is a GPU, autograd's threads would be lost in it
    context = multiprocessing.get_context("spawn" if torch.cuda.is_available() else "fork")
    ranks = [context.Process(target=target, args=(rank, *arguments)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(120)
        rank.kill()
    assert [rank.exitcode for rank in ranks] == [0, 0]
