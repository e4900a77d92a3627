"""The launcher of the processes that train together, one per GPU: torchrun's, but it ends with their exit code.

python -m trainer.devices.launch --standalone --nproc-per-node=2 -m trainer …
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # below, a lost process is a stack of frames; torch reads it once

from torch.distributed import DistError, run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous.api import RendezvousError

from trainer.errors import STOPPED_AT_ONCE, Interrupted, SettingsError, first_sentence

CAUSES = {signal.SIGABRT: "another one was lost or did not answer"}  # so NCCL ends a process that waits for it
MEMORY = "if memory ran out, use data.cache=none or fewer data.workers"


def main() -> None:
    """The program, with torchrun's options. It ends as its processes have ended, with 75 where they can be resumed."""
    logging.disable(logging.CRITICAL)  # the processes say what is wrong
    descriptor = os.memfd_create("exit code")  # it goes with this process
    os.environ["TRAINER_EXIT_CODE"] = f"/proc/{os.getpid()}/fd/{descriptor}"
    try:
        run.run(run.parse_args(sys.argv[1:]))
    except SignalException as error:  # passed on to the processes, which had half a minute for a checkpoint
        code = read_exit_code(descriptor)
        if code is None and error.sigval == signal.SIGTERM:  # before the first step, or in the final report
            code = Interrupted.exit_code
            print(f"error: {STOPPED_AT_ONCE}", file=sys.stderr)
        sys.exit(128 + error.sigval if code is None else code)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            sys.exit(failure.exitcode)
        name = signal.Signals(-failure.exitcode)
        print(
            f"error: process {rank} was ended by {name.name}; {CAUSES.get(name, MEMORY)}; --resume continues from the "
            f"newest checkpoint",
            file=sys.stderr,
        )
        sys.exit(128 - failure.exitcode)  # as shells put it
    except (RendezvousError, DistError) as error:
        code = read_exit_code(descriptor)
        if code is None:  # else they have said it
            reason = first_sentence(error)
            print(
                f"error: another machine of the run cannot be reached ({reason}); start all again with --resume",
                file=sys.stderr,
            )
        sys.exit(code or 1)
    except ValueError as error:  # an option's value
        print(f"error: {first_sentence(error)}", file=sys.stderr)
        sys.exit(SettingsError.exit_code)


def read_exit_code(descriptor: int) -> int | None:
    """What a process has written to $TRAINER_EXIT_CODE as it ended; None where none has come to its end."""
    text = os.pread(descriptor, 8, 0).decode()
    return int(text) if text else None


def relaunch(count: int, arguments: list[str], out: Path) -> None:
    """Become the launcher of one process per GPU."""
    launcher = [sys.executable, "-m", "trainer.devices.launch", "--standalone", f"--nproc-per-node={count}"]
    environment = {**os.environ, "TRAINER_OUT": str(out)}  # the folder chosen here
    os.execve(sys.executable, [*launcher, "-m", "trainer", *arguments], environment)


if __name__ == "__main__":
    main()
