"""A program like `python` whose `-m trainer…` runs in a fork, where torch is there already: to import it takes 8 s.

The program sends its arguments, environment, folder and standard streams to a server, a fork of the tests' process,
which forks for each call. Signals are passed on, the exit code comes back. All else is left to Python itself.
"""

import contextlib
import importlib
import json
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import threading
import uuid
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path

import torch

FORK = multiprocessing.get_context("fork")
PROGRAM = f"""#!{sys.executable} -IS
import os, sys
words = sys.argv[1 + (sys.argv[1] == "-u") :]  # which torchrun passes
if words[0] != "-m" or not words[1].startswith("trainer"):
    os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]])
import json, signal, socket
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.connect(ADDRESS)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: server.send(bytes([number])))
call = [words[1:], os.getcwd(), dict(os.environ)]
socket.send_fds(server, [json.dumps(call).encode()], [0, 1, 2])
os._exit(int(server.recv(9)))
"""


@contextlib.contextmanager
def warm_python(folder: Path) -> Iterator[str]:
    """The path of such a program in `folder`; where there is a GPU, whose threads a fork would lose, Python itself."""
    if torch.cuda.is_available():
        yield sys.executable
        return
    for name in ("sklearn.metrics", "trainer.evaluation.plots", "trainer.tools.trained_model"):
        importlib.import_module(name)  # else every call does it
    address, path = f"\0{uuid.uuid4().hex}", folder / "python"  # an address without a file
    path.write_text(PROGRAM.replace("ADDRESS", repr(address)))
    path.chmod(0o755)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(address)
        listening.listen()
        server = FORK.Process(target=_serve, args=(listening,))
        server.start()
    yield str(path)
    server.kill()
    server.join()


def _serve(listening: socket.socket) -> None:
    calls = []
    while True:
        connection, _ = listening.accept()
        calls.append(FORK.Process(target=_answer, args=(connection,)))
        calls[-1].start()
        connection.close()


def _answer(connection: socket.socket) -> None:
    """Start the call, and pass signals on to it; it ends with the program."""
    text, streams, *_ = socket.recv_fds(connection, 1 << 18, 3)
    process = FORK.Process(target=_run, args=(streams, *json.loads(text)))
    process.start()

    def wait() -> None:
        process.join()
        with contextlib.suppress(OSError):  # the program may have been killed
            connection.send(str(process.exitcode).encode())
        os._exit(0)

    threading.Thread(target=wait).start()
    while number := connection.recv(1):
        os.kill(process.pid, number[0])
    process.kill()


def _run(streams: list[int], words: list[str], folder: str, environment: dict[str, str]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout, sys.stderr = (open(number, "rw"[number > 0], 1, closefd=False) for number in range(3))  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ |= environment
    signal.signal(signal.SIGINT, signal.default_int_handler)
    forkserver._forkserver.__init__()  # else it waits for that of the tests' process
    sys.argv = words
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
