"""torch's own launcher, ended with the exit code of the processes it started instead of 1 and a traceback of its own.

python -m trainer.launcher --standalone --nproc-per-node=2 -m trainer …
"""

from __future__ import annotations

import logging
import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from trainer.errors import Interrupted


def main() -> None:
    """Options and arguments are torchrun's. Exits with 75 where the run was stopped by a signal and can go on."""
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # the processes have said what is wrong
    try:
        run.run(run.parse_args(sys.argv[1:]))
    except SignalException:  # passed on to the processes, which had half a minute for a checkpoint
        sys.exit(Interrupted.exit_code)
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        sys.exit(code if code > 0 else 128 - code)  # a signal's number, as shells put it


if __name__ == "__main__":
    main()
