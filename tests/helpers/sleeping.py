"""A process of a group that notes signals as the trainer does, says so, and stays busy for the seconds it is given."""

import os
import sys
import time

from trainer.engine.stop import StopWatch

if __name__ == "__main__":
    stop = StopWatch(None)
    os.write(sys.stdout.fileno(), f"{os.environ['RANK']} {os.getpid()}\n".encode())  # at once: two share the pipe
    while not stop.check():
        time.sleep(0.05)
    os.write(sys.stdout.fileno(), f"{stop.reason}\n".encode())
    time.sleep(float(sys.argv[1]))
