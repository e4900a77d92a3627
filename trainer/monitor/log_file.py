"""The log file of a run: all messages with their times, in logs/ of its folder."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from pathlib import Path
from types import TracebackType

from shardify.errors import ShardifyError
from shardify.text import printable


class RunLog(logging.Handler):
    """A context in which every message of the program is kept, from `open` on in logs/training_YYYYMMDD_HHMMSS.log.

    A run that is refused before that leaves no file. Each line is on its way to the disk before the next one comes, so
    a process that is killed has all of them. The last line says how the run ended, unless the process was ended at
    once, as by SIGKILL.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._early: list[logging.LogRecord] = []
        self._file: logging.FileHandler | None = None

    def __enter__(self) -> RunLog:
        logging.getLogger().addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.say("the run is complete")
        elif isinstance(error, (ShardifyError, OSError)):
            self.say(f"the run has stopped: {error}", logging.ERROR)
        else:  # a fault of the program, or Ctrl-C twice
            self.say(f"the run has stopped ({kind.__name__})", logging.ERROR, (kind, error, traceback))
        logging.getLogger().removeHandler(self)
        if self._file:
            with contextlib.suppress(OSError):  # a full disk does not hide how the run ended
                self._file.close()

    def open(self, run_folder: Path, facts: dict[str, object]) -> None:
        """Begin the file, with these facts about the run. Raises OSError where none can be made."""
        path = run_folder / "logs" / f"training_{time.strftime('%Y%m%d_%H%M%S')}.log"
        path.parent.mkdir(exist_ok=True)
        self._file = logging.FileHandler(path, encoding="utf-8")
        self._file.setFormatter(_OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self._file.handleError = lambda record: None  # a full disk is said where checkpoints are written
        for name, value in facts.items():
            self.say(f"{name}: {value}")
        for record in self._early:
            self._file.emit(record)
        self._early.clear()

    def say(self, message: str, level: int = logging.INFO, exc_info: tuple | None = None) -> None:
        """A line of the file that is not shown on the screen."""
        self.handle(logging.LogRecord("trainer", level, __file__, 0, message, None, exc_info))

    def emit(self, record: logging.LogRecord) -> None:
        if self._file:
            self._file.emit(record)
        else:
            self._early.append(record)
        is_ours = record.name.partition(".")[0] in ("trainer", "shardify")
        if not is_ours and logging.getLogger().handlers == [self] and record.levelno >= logging.WARNING:
            print(record.getMessage(), file=sys.stderr)  # as logging does where nobody listens


class _OneLine(logging.Formatter):
    """A message is one line, whatever a file's name in it holds; a traceback keeps its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))
