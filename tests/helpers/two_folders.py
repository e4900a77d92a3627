"""One rank of two, each of which sees another run folder, as two machines do; prints how every run ended."""

import json
import os
import signal
import sys
from pathlib import Path

from runs import Stopping, run_small

from shardify.errors import ShardifyError
from trainer.devices.distributed import join_group, leave_group
from trainer.tasks.base import Task


def main():
    shards, folder, group = Path(sys.argv[1]), Path(sys.argv[2]), join_group(use_gpu=False)
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
    Stopping.stop_at = 0 if other else -1
    run("stopped", "epochs=3")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.write(sys.stdout.fileno(), (json.dumps({"rank": group.rank, "ends": ends}) + "\n").encode())
    leave_group(group)


if __name__ == "__main__":
    main()
