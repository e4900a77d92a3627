"""Checkpoints that are whole or absent: the file's name carries the hash of its bytes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from pathlib import Path

import torch
from torch import Tensor

from trainer.errors import TrainerError
from trainer.run_folder import CHECKPOINT
from trainer.torch_files import read_torch_file

# Settings that do not shape the weights and may differ on resume.
FREE_SETTINGS = (
    "max_hours", "checkpoint_every_steps", "keep_checkpoints", "early_stopping", "tensorboard", "profile", "data.cache",
    "data.workers",
)  # fmt: skip


def save_checkpoint(folder: Path, state: dict, step: int, keep: int) -> Path:
    """Write `state` under a name with its hash, then drop all but the newest `keep` files."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    path = folder / f"step-{step:08d}-{hashlib.sha256(payload).hexdigest()[:16]}.pth"
    for left_over in folder.glob(".step-*.pth.tmp"):  # of a process that was killed while it wrote
        left_over.unlink(missing_ok=True)
    write_atomically(path, payload)
    for old in list_checkpoints(folder)[keep:]:
        if old != path:
            old.unlink()
    return path


def load_newest(folder: Path, say) -> dict | None:
    """The newest checkpoint whose bytes match its name, with that name as `file`; None without any.

    Damaged ones are named and passed over.

    Raises TrainerError where all are damaged: to start again would overwrite the run.
    """
    paths = list_checkpoints(folder)
    for path in paths:
        payload = path.read_bytes()
        if hashlib.sha256(payload).hexdigest()[:16] == CHECKPOINT.match(path.name)[2]:
            try:
                return read_torch_file(io.BytesIO(payload)) | {"file": path.name}
            except ValueError as error:
                raise TrainerError(f"{path}: cannot be read ({error}); start a new run with another --out") from error
        if path != paths[-1]:
            say(f"warning: {path} is damaged; falling back to the checkpoint before it")
    if paths:
        names = ", ".join(path.name for path in paths)
        raise TrainerError(
            f"{folder}: every checkpoint in it is damaged ({names}); put one back from a copy, or start a new run with "
            f"another --out"
        )
    return None


def list_checkpoints(folder: Path) -> list[Path]:
    """Newest first."""
    found = [path for path in folder.glob("step-*.pth") if CHECKPOINT.match(path.name)]
    return sorted(found, key=lambda path: (path.name, path.stat().st_mtime_ns), reverse=True)


def check_resumable(state: dict, settings: dict, shards_fingerprint: str) -> None:
    """Raises TrainerError, naming the difference, when a checkpoint belongs to another run."""
    if state["shards"] != shards_fingerprint:
        raise TrainerError("the checkpoint was made on other shards; pass those, or start a new run with --out")
    old, new = flatten(state["settings"]), flatten(settings)
    free = {*FREE_SETTINGS, *(["epochs"] if new["scheduler.name"] != "cosine" else [])}
    changed = [key for key in sorted(old.keys() | new.keys()) if key not in free and old.get(key) != new.get(key)]
    if changed:
        listed = ", ".join(f"{key} {old.get(key)} → {new.get(key)}" for key in changed)
        raise TrainerError(f"the checkpoint was made with other settings ({listed}); pass the same, or another --out")


def flatten(settings: dict, prefix: str = "") -> dict:
    """Nested settings by their dotted names."""
    flat = {}
    for key, value in settings.items():
        if isinstance(value, dict) and key != "options":
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def write_atomically(path: Path, payload: bytes) -> None:
    """Temporary name in the same folder, fsync, rename. A full disk leaves no half of a file to fill it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        rename(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def rename(old: Path, new: Path) -> None:
    """In one folder, and in this order on the disk: what is renamed later is never there without this."""
    os.replace(old, new)
    descriptor = os.open(new.parent, os.O_RDONLY)
    with contextlib.suppress(OSError):  # some file systems cannot do that with a folder
        os.fsync(descriptor)
    os.close(descriptor)


def own_copies(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous, on the CPU, each with memory of its own: safetensors refuses weights that share theirs."""
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in weights.items()
    }
