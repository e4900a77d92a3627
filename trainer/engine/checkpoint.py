"""Checkpoints: the state of a run in files that are whole or absent, named by their hash."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import logging
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import torch

from shardify.machine import is_out_of_memory
from shardify.storage.local import write_atomically
from trainer.config.load import flatten, from_dict
from trainer.config.run_folder import CHECKPOINT
from trainer.engine.engine import Engine
from trainer.errors import TrainerError
from trainer.torch_files import read_torch_file

logger = logging.getLogger(__name__)

# Settings that do not shape the weights and may differ on resume; the fingerprint says which clips data.extra names.
FREE_SETTINGS = (
    "max_hours", "checkpoint_every_steps", "keep_checkpoints", "early_stopping", "tensorboard", "profile", "data.cache",
    "data.workers", "data.cache_dir", "data.cache_gb", "data.extra",
)  # fmt: skip


def save_checkpoint(folder: Path, state: dict, step: int, keep: int) -> Path:
    """Write `state` under a name with its hash, drop all but the newest `keep`, and others of that step."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    path = folder / f"step-{step:08d}-{hashlib.sha256(payload).hexdigest()[:16]}.pth"
    for left_over in folder.glob(".step-*.pth.tmp"):  # of a process that was killed while it wrote
        left_over.unlink(missing_ok=True)
    write_atomically(path, payload)
    for place, old in enumerate(list_checkpoints(folder)):
        if old != path and (place >= keep or step_of(old) == step):  # as before and after an epoch's validation
            old.unlink()
    return path


def load_newest(folder: Path) -> dict | None:
    """The newest checkpoint whose bytes match its name; None without any.

    Damaged ones are named and passed over.

    Raises TrainerError where all are damaged, as to start again would overwrite the run, or it is no checkpoint.
    """
    paths = list_checkpoints(folder)
    for path in paths:
        payload = path.read_bytes()
        if hashlib.sha256(payload).hexdigest()[:16] == CHECKPOINT.match(path.name)[2]:
            try:
                state = read_torch_file(io.BytesIO(payload))
                if not isinstance(state, dict):
                    raise ValueError(f"it holds a {type(state).__name__}, not a run's state")
                return state
            except ValueError as error:
                raise TrainerError(f"{path}: cannot be read ({error}); start a new run with another --out") from error
        if path != paths[-1]:
            logger.warning(f"{path} is damaged; falling back to the checkpoint before it")
    if paths:
        names = ", ".join(path.name for path in paths)
        raise TrainerError(
            f"{folder}: every checkpoint in it is damaged ({names}); put one back from a copy, or start a new run with "
            f"another --out"
        )
    return None


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the newest first."""
    found = [path for path in folder.glob("step-*.pth") if CHECKPOINT.match(path.name)]
    return sorted(found, key=lambda path: (step_of(path), path.stat().st_mtime_ns), reverse=True)


def step_of(path: Path) -> int:
    return int(CHECKPOINT.match(path.name)[1])


def check_resumable(state: dict, settings: dict, shards_fingerprint: str) -> None:
    """Raises TrainerError, naming the difference, when a checkpoint belongs to another run."""
    if state["shards"] != shards_fingerprint:
        raise TrainerError("the checkpoint was made on other shards; pass those, or start a new run with --out")
    new = flatten(settings)
    # without those of other losses, which 0.2.0 has stored; settings that it did not have stood at their defaults
    old = flatten(from_dict(state["settings"]).to_dict())
    free = {*FREE_SETTINGS}
    if new["steps"]:
        free.remove("checkpoint_every_steps")  # which numbers the intervals
    if new["scheduler.name"] != "cosine":
        free |= {"epochs", *(["steps"] if new["steps"] and old["steps"] else [])}
    changed = [key for key in sorted(old.keys() | new.keys()) if key not in free and old.get(key) != new.get(key)]
    if changed:
        listed = ", ".join(f"{key} {old.get(key)} → {new.get(key)}" for key in changed)
        raise TrainerError(f"the checkpoint was made with other settings ({listed}); pass the same, or another --out")


@dataclass
class Progress:
    """The state of a run that a checkpoint holds beside the weights."""

    epoch: int = 0  # the epoch to resume in, from 0
    step: int = 0  # the step in it to resume at; the number of its steps where validation is to come
    sums: dict[str, float] = field(default_factory=dict)  # of the begun epoch, {} before its first step
    history: list[dict] = field(default_factory=list)
    best_value: float | None = None
    best_epoch: int = 0  # counted from 1, as in the history
    best_sha256: str = ""  # of that epoch's models/best_model.pth; "" in checkpoints of earlier versions
    lr: float = 0.0  # of the newest step of the begun epoch, or the one to come
    clips: int = 0  # trained on, and the seconds it took, over the whole run
    seconds: float = 0.0
    wait_seconds: float = 0.0
    skips: list[int] = field(default_factory=lambda: [0, 0])  # steps: all, the last ones in a row
    accumulate: int = 1  # parts of a step; more than was set once memory has run out
    weights_origin: str = ""  # where the weights came from before training
    choices: list[str] = field(default_factory=list)  # notes on what the task's `auto` came to when the run began


def save_state(engine: Engine, progress: Progress, steps_per_epoch: int, out: Path, shards_fingerprint: str) -> None:
    """Write a checkpoint; every rank calls this, rank 0 writes."""
    if not engine.group.is_main:
        return
    progress.skips, progress.accumulate = engine.guard.counts.tolist(), engine.accumulate
    state = {
        "model": engine.model.state_dict(),
        "optimizer": engine.optimizer.state_dict(),
        "schedule": engine.schedule.state_dict(),
        "scaler": engine.scaler.state_dict(),
        "ema": engine.ema.state_dict() if engine.ema else {},
        "progress": dataclasses.asdict(progress),
        "settings": engine.settings.to_dict(),
        "shards": shards_fingerprint,
    }
    step = progress.epoch * steps_per_epoch + progress.step
    save_checkpoint(out / "checkpoints", state, step, engine.settings.keep_checkpoints)


def load_state(engine: Engine, state: dict) -> Progress:
    """Put the checkpoint's state back; the sums over all ranks go to rank 0.

    Raises TrainerError where it does not fit the model as it is here, as after a version with another one.
    """
    try:
        engine.model.load_state_dict(state["model"])
        engine.optimizer.load_state_dict(state["optimizer"])
        if engine.ema:
            engine.ema.load_state_dict(state["ema"])
    except (RuntimeError, ValueError) as error:  # torch's two kinds: of modules, of optimizers
        if is_out_of_memory(error):
            raise
        reason = textwrap.shorten(str(error), 300, placeholder=" …")
        raise TrainerError(
            f"the checkpoint does not fit {engine.settings.model.name} as it is here ({reason}); if an earlier version "
            f"has made it, resume with that one, or start a new run with another --out"
        ) from error
    engine.schedule.load_state_dict(state["schedule"])
    if state["scaler"]:  # empty where the run was not in float16, as on another GPU
        engine.scaler.load_state_dict(state["scaler"])
    progress = Progress(**state["progress"])
    if isinstance(progress.sums, list):  # up to 0.2.0 they had no names, but this order
        progress.sums = dict(zip(engine.new_sums(), progress.sums, strict=True))
    engine.guard.counts.copy_(torch.tensor(progress.skips))
    engine.accumulate = progress.accumulate
    if not engine.group.is_main:
        progress.sums = {}
    return progress
