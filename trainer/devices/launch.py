"""The launcher of one process per GPU: torch's own, but it ends with the exit code of the processes.

python -m trainer.devices.launch --standalone --nproc-per-node=2 -m trainer …
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from pathlib import Path

from torch.distributed import DistError, run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous.api import RendezvousError

from trainer.errors import Interrupted


def main() -> None:
    """The program, with torchrun's options. Exits with 75 where a signal has stopped the run and it can be resumed."""
    logging.disable(logging.CRITICAL)  # the processes say what is wrong
    started = time.time()
    try:
        run.run(run.parse_args(sys.argv[1:]))
    except SignalException as error:  # passed on to the processes, which had half a minute for a checkpoint
        sys.exit(Interrupted.exit_code if has_checkpoint_since(started) else 128 + error.sigval)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            sys.exit(failure.exitcode)
        print(
            f"error: process {rank} was ended by {signal.Signals(-failure.exitcode).name}; if memory ran out, use "
            f"data.cache=none or fewer data.workers; --resume continues from the newest checkpoint",
            file=sys.stderr,
        )
        sys.exit(128 - failure.exitcode)  # as shells put it
    except (RendezvousError, DistError) as error:
        reason = str(error).splitlines()[0]
        print(
            f"error: another machine of the run cannot be reached ({reason}); start all again with --resume",
            file=sys.stderr,
        )
        sys.exit(1)


def has_checkpoint_since(started: float) -> bool:
    """Whether the run in $TRAINER_OUT has written one."""
    folder = Path(os.environ.get("TRAINER_OUT", "")) / "checkpoints"
    return any(path.stat().st_mtime >= started for path in folder.glob("step-*.pth"))


def relaunch(count: int, arguments: list[str], out: Path) -> None:
    """Become the launcher of one process per GPU."""
    launcher = [sys.executable, "-m", "trainer.devices.launch", "--standalone", f"--nproc-per-node={count}"]
    environment = {**os.environ, "TRAINER_OUT": str(out)}  # all of them write to the one folder chosen here
    os.execve(sys.executable, [*launcher, "-m", "trainer", *arguments], environment)


if __name__ == "__main__":
    main()
