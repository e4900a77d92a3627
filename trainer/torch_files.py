"""The reader of torch's own files: weights, checkpoints, finished runs."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import IO, Any

import torch


def read_torch_file(file: Path | IO[bytes], *, mmap: bool | None = None) -> Any:
    """The content of a file of `torch.save`, on the CPU: tensors and plain values only, as unpickling others runs code.

    mmap: read the table of contents, and tensors when they are used. Raises ValueError where the file holds anything
    else or is damaged, and what else the reader raises for damaged files.
    """
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:  # its own text explains how to run the code
        raise ValueError("it is damaged, or holds more than tensors and plain values") from error
