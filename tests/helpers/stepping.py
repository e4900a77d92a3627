"""A rank of a group that shares memory and steps together with the others, until one of them is asked to end."""

import os
import sys
import time

from trainer.devices.distributed import join_group, leave_group
from trainer.engine.stop import StopWatch

if __name__ == "__main__":
    group, stop = join_group(use_gpu=False), StopWatch(None)
    memory = group.shared_memory(1 << 20)
    os.write(sys.stdout.fileno(), f"{group.rank} {os.getpid()}\n".encode())  # at once: two processes share the pipe
    while not group.any(bool(stop.check())):
        time.sleep(0.05)
    leave_group(group)
