"""Where a run stands, and how it is written to a checkpoint and read back."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from trainer.checkpoint import save_checkpoint
from trainer.engine import Engine


@dataclass
class Progress:
    """With the weights, all that a checkpoint holds."""

    epoch: int = 0  # the epoch to go on in, from 0
    step: int = 0  # the step in it to go on at
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # loss, right, clips of the begun epoch
    history: list[dict] = field(default_factory=list)
    best_value: float | None = None
    best_epoch: int = 0  # counted from 1, as in the history
    best_sha256: str = ""  # of that epoch's models/best_model.pth; "" in checkpoints of earlier versions
    clips: int = 0  # trained on, and the seconds it took, over the whole run
    seconds: float = 0.0
    wait_seconds: float = 0.0
    skips: list[int] = field(default_factory=lambda: [0, 0])  # steps: all, the last ones in a row
    accumulate: int = 1  # parts of a step; more than was set once memory has run out
    weights_origin: str = ""  # where the weights came from before training


def save_state(
    engine: Engine, model: nn.Module, progress: Progress, steps_per_epoch: int, out: Path, shards_fingerprint: str
) -> None:
    """Called by every rank; rank 0 writes."""
    if not engine.group.is_main:
        return
    progress.skips, progress.accumulate = engine.guard.counts.tolist(), engine.accumulate
    state = {
        "model": model.state_dict(),
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


def load_state(engine: Engine, model: nn.Module, state: dict) -> Progress:
    """Put the checkpoint's state back; the sums over all ranks go to rank 0."""
    model.load_state_dict(state["model"])
    engine.optimizer.load_state_dict(state["optimizer"])
    engine.schedule.load_state_dict(state["schedule"])
    if state["scaler"]:  # empty where the run was not in float16, as on another GPU
        engine.scaler.load_state_dict(state["scaler"])
    if engine.ema:
        engine.ema.load_state_dict(state["ema"])
    progress = Progress(**state["progress"])
    engine.guard.counts.copy_(torch.tensor(progress.skips))
    engine.accumulate = progress.accumulate
    if not engine.group.is_main:
        progress.sums = [0.0, 0.0, 0.0]
    return progress


def total_sums(engine: Engine, sums: Tensor) -> list[float]:
    """Loss, right predictions and clips of the epoch so far, over all ranks."""
    return np.sum(engine.group.gather(sums.cpu().numpy()[None]), axis=0).tolist()
