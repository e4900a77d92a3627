"""Names in any script on any terminal: what its encoding lacks is escaped, by every command of both packages."""

import io
import logging
import os
import runpy
import signal
import sys

import pytest

from shardify.terminal import escape_unprintable, show_log

PROGRAMS = (
    "shardify", "trainer", "trainer.predict", "trainer.evaluate", "trainer.export", "trainer.audit",
)  # fmt: skip


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", rb"\xfcn\u771f \udcff"),
        ("latin-1", b"\xfcn" rb"\u771f \udcff"),
        ("utf-8", "ün真".encode() + rb" \udcff"),
    ],
)
def test_what_the_terminal_lacks_is_escaped(encoding, expected, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    escape_unprintable()
    print("ün真", os.fsdecode(b"\xff"), end="", flush=True)
    assert written.getvalue() == expected


def test_other_streams_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())  # as a notebook's, which cannot be changed
    escape_unprintable()
    print("ün真", end="")
    assert sys.stdout.getvalue() == "ün真"


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_every_program_does_so_before_its_first_line(program, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    monkeypatch.setattr(sys, "argv", [program, "--help"])
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(program, run_name="__main__", alter_sys=False)
    finally:
        signal.signal(signal.SIGINT, handler)  # which shardify sets
    sys.stdout.flush()
    assert ended.value.code == 0 and b"Usage: " in written.getvalue()
    assert sys.stdout.errors == "backslashreplace"


def test_messages_are_plain_lines_each_shown_once(capsys):
    show_log("shardify")
    show_log("trainer", "shardify")
    logger = logging.getLogger("shardify.build.somewhere")
    logger.debug("nothing")
    logger.info("a share of 5%")
    logger.warning("a name\x1b[2J")
    assert capsys.readouterr() == ("", "a share of 5%\nwarning: a name\\x1b[2J\n")
