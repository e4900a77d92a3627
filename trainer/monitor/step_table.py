"""The table of a run that counts in steps: its figures every 100 steps, in results/monitor.csv."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from shardify.storage.local import write_atomically
from shardify.storage.table import read_csv, table_bytes
from trainer.devices.gpu import gpu_memory
from trainer.engine.nonfinite import CHECK_STEPS

if TYPE_CHECKING:
    from trainer.run import Run

EVERY = (
    100  # steps from one row to the next; an interval ends with one, too, and while steps are skipped there are more
)
# of the history, and all that begin with sample_
OF_VALIDATION = ("train_loss_fixed", "val_loss", "latent_std", "real_agreement")


class StepTable:
    """The rows of one interval: each of the steps since the row before, or since the run was resumed.

    A resumed run takes its own rows up again where it stands. `train_loss_fixed` and `val_loss` are of the averaged
    weights, at draws that are the same in every validation; `train_loss_probe` and `val_loss_probe` of the weights in
    training and few clips, in every row.
    """

    def __init__(self, run: Run) -> None:
        self._run, self._steps = run, len(run.loaders["train"])
        self._first = run.progress.epoch * self._steps
        self._rows = []
        if run.group.is_main:
            self._rows = [row for row in read_table(run.out) if int(row["step"]) <= self._first + run.progress.step]
        self._before = dict.fromkeys(run.engine.new_sums(), 0.0) | run.progress.sums
        self._skipped = int(run.engine.guard.counts[0])
        self._clips, self._wait, self._time = 0, 0.0, time.monotonic()

    def update(self, step: int, clips: int, sums: dict[str, Tensor], wait_seconds: float) -> None:
        """Add a row where one is due, after every step of the interval; all ranks call it.

        sums: of the interval so far, as the engine keeps them; wait_seconds: of the interval so far.
        """
        self._clips += clips
        done = step + 1
        task, engine = self._run.task, self._run.engine
        is_due = done % EVERY == 0 or done == self._steps
        if not (is_due or (done % CHECK_STEPS == 0 and engine.guard.in_a_row())):  # which may soon end the run
            return
        totals = engine.total(sums)  # makes the CPU wait for the GPU
        probed = self._run.probe.losses() if self._run.probe else {}
        if not self._run.group.is_main:
            return
        seconds = time.monotonic() - self._time
        since = {name: value - self._before[name] for name, value in totals.items()}
        figures = task.train_figures(since) if any(since[f"clips{part}"] for part in task.loss_parts) else {}
        skipped = int(engine.guard.counts[0])
        row = {
            "step": self._first + done,
            **{name.removeprefix("train_"): f"{value:.6g}" for name, value in figures.items()},
            **{name: f"{value:.6g}" for name, value in probed.items()},
            "skipped_steps": str(skipped - self._skipped),
            "gradient_norm": f"{float(engine.guard.norm):.6g}",  # of the last of the steps
            "lr": f"{engine.optimizer.param_groups[0]['lr']:.6g}",  # of the step to come
            "clips_per_second": f"{self._clips / seconds:.2f}",
            "data_wait": f"{(wait_seconds - self._wait) / seconds:.5f}",
            "memory_gb": f"{memory_gb(self._run):.3f}",
        }
        self._rows.append(row)
        write_table(self._run.out, self._rows)
        self._before, self._clips, self._wait, self._time = totals, 0, wait_seconds, time.monotonic()
        self._skipped = skipped


def add_validation(out: Path, row: dict) -> None:
    """Add to the newest row what the validation after it has found; row: of the history."""
    rows = read_table(out) or [{"step": row["step"]}]  # results/ may have been removed
    named = {name: value for name, value in row.items() if name in OF_VALIDATION or name.startswith("sample_")}
    rows[-1] |= {name: f"{value:.6g}" for name, value in named.items()}
    write_table(out, rows)


def table_path(out: Path) -> Path:
    return out / "results" / "monitor.csv"


def read_table(out: Path) -> list[dict[str, str]]:
    """The rows so far; none where the run has just begun."""
    try:
        with table_path(out).open(newline="", encoding="utf-8") as file:
            return read_csv(file)[0]
    except FileNotFoundError:
        return []


def write_table(out: Path, rows: list[dict]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    write_atomically(table_path(out), table_bytes(columns, rows))


def memory_gb(run: Run) -> float:
    """The most memory so far: of the GPU, or on a CPU of this process."""
    used = gpu_memory(run.group.device)
    return used.get("gpu_memory_gb", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
