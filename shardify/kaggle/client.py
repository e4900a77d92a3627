"""Kaggle's own client, which logs file by file what it sends and stops at a file that it could not send.

Importing this needs the package `kaggle`, which looks for credentials, and may ask Kaggle about them, while imported.
"""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path

from shardify.errors import ShardifyError
from shardify.progress import shows_bars
from shardify.text import human_bytes

with contextlib.redirect_stdout(io.StringIO()):  # its advice on credentials; ours comes instead
    from kaggle.api.kaggle_api_extended import KaggleApi


logger = logging.getLogger(__name__)


class Client(KaggleApi):
    """`files` is how many are to be sent."""

    def __init__(self, files: int) -> None:
        super().__init__()
        self._files = files
        self._begun: list[str] = []
        self.quiet = not shows_bars()

    def upload_files(self, request, *args, **kwargs) -> None:
        """Raises ShardifyError; up to 2.2.4 the client itself makes a dataset of the files that got through."""
        super().upload_files(request, *args, **kwargs)
        if len(request.files) != self._files:
            raise ShardifyError(
                f"only {len(request.files)} of {self._files} files could be sent; run the same command again to resume"
            )

    def upload_complete(self, path, url, quiet, resume=False):
        name = Path(path).name
        if name not in self._begun:
            self._begun.append(name)
        done = f"{len(self._begun)}/{self._files}"
        logger.info(f"{done} {'resuming' if resume else 'sending'} {name}, {human_bytes(Path(path).stat().st_size)}")
        return super().upload_complete(path, url, quiet, resume)
