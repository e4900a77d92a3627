"""A process of a group that notes signals as the trainer does, and is busy for long."""

import sys
import time

from trainer.engine.stop import StopWatch

if __name__ == "__main__":
    stop = StopWatch(None)
    sys.stdout.write("asleep\n")  # at once: two processes share the pipe
    while not stop.check():
        time.sleep(0.05)
    sys.stdout.write(f"{stop.reason}\n")
    time.sleep(600)
