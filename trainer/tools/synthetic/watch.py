"""The watch over a run of the task diffusion, by the files in its folder alone: it may run on another machine."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from shardify.text import duration
from trainer.config.load import read_yaml
from trainer.config.run_folder import is_held, read_record
from trainer.errors import TrainerError
from trainer.models.autoencoders.load import ABOUT
from trainer.monitor.step_table import read_table
from trainer.tools.synthetic.findings import Rows, findings, measured

SHOWN = (
    "loss", "train_loss_probe", "val_loss_probe", "train_loss_fixed", "val_loss", "sample_agreement", "sample_near",
)  # fmt: skip
OF_SHEETS = "latent_std", "sample_agreement", "sample_near"  # which findings go by
SILENCE = 900  # seconds without a new row or a line of the log; a sheet of samples on a CPU may take minutes
RECENT = 10  # rows whose speed says how long the rest takes


@dataclass(frozen=True)
class Watched:
    """A run as its files show it."""

    run: Path
    rows: Rows
    num_steps: int  # of the whole run
    batch_size: int
    num_classes: int
    has_sheets: bool  # of samples, by model.sample_every_steps
    is_over: bool  # its results are written; the row of the last step comes before the last validation

    @property
    def step(self) -> int:
        return int(self.rows[-1]["step"]) if self.rows else 0

    def progress(self) -> str:
        """How far the run is, how long the rest takes, and the newest figures."""
        parts = [f"{self.run}: step {self.step} of {self.num_steps} ({self.step / self.num_steps:.0%})"]
        _, rates = measured(self.rows[-RECENT:], "clips_per_second")
        if len(rates) and not self.is_over and self.step < self.num_steps:
            left = (self.num_steps - self.step) * self.batch_size / max(float(rates.mean()), 1e-9)
            parts.append(f"{duration(left)} left")
        for name in SHOWN:
            _, values = measured(self.rows, name)
            if len(values):
                parts.append(f"{name} {values[-1]:.4g}")
        if not self.has_sheets:
            parts.append(f"not measured, since model.sample_every_steps is 0: {', '.join(OF_SHEETS)}")
        return ", ".join(parts)

    def findings(self) -> list[str]:
        return findings(self.rows, self.num_steps, self.num_classes)


def watch(run: Path, once: bool, seconds: float, show: Callable[..., None]) -> bool:
    """Show how a run stands, every so many seconds until it is over or has died, or once; whether all is well then.

    Raises TrainerError where the folder holds no run of the task diffusion.
    """
    while True:
        watched = read_run(run)
        found = watched.findings()
        show(watched.progress(), *(f"finding: {line}" for line in found))
        if once or watched.is_over:
            return not found
        if has_died(run):
            show(
                f"{run}: no process holds this run, and it has written nothing for {duration(SILENCE)}: it has died "
                f"or was stopped; the newest file in its logs/ shows how far it came, and --resume continues it"
            )
            return False
        time.sleep(seconds)


def has_died(run: Path) -> bool:
    """Whether a run has written nothing for SILENCE seconds while no process was seen to hold its folder."""
    newest = 0.0
    for path in (each for name in ("results", "logs", "checkpoints") for each in (run / name).glob("*")):
        with contextlib.suppress(FileNotFoundError):  # older checkpoints go
            newest = max(newest, path.stat().st_mtime)
    return time.time() - newest > SILENCE and not is_held(run)


def read_run(run: Path) -> Watched:
    """A run as it is now. Raises TrainerError where the folder holds none of the task diffusion."""
    settings = read_yaml(run / "config.yaml") if (run / "config.yaml").is_file() else {}
    model, steps, batch_size = (settings.get(name) for name in ("model", "steps", "batch_size"))
    is_diffusion = isinstance(model, dict) and model.get("name") == "diffusion"
    if not (is_diffusion and steps and isinstance(steps, int) and isinstance(batch_size, int)):
        raise TrainerError(
            f"{run}: holds no run with model.name=diffusion that counts in steps; pass the folder of one"
        )
    is_over = read_record(run) is not None  # before the rows are read, so that all of a finished run are seen
    has_sheets = model.get("sample_every_steps") != 0
    return Watched(run, to_rows(read_table(run)), steps, batch_size, _num_classes(run), has_sheets, is_over)


def _num_classes(run: Path) -> int:
    """Of the newest model; 0 before there is one."""
    try:
        return len(json.loads((run / "models" / "last" / ABOUT).read_text(encoding="utf-8"))["classes"])
    except (OSError, ValueError, KeyError, TypeError):  # it is just being replaced
        return 0


def to_rows(table: Iterable[Mapping[str, str | None]]) -> Rows:
    """The rows of a table that is being written; cells that are empty, or no numbers, are not there."""
    rows = []
    for line in table:
        row = {}
        for name, cell in line.items():
            with contextlib.suppress(ValueError, TypeError):
                row[name] = float(cell)
        if "step" in row:
            rows.append(row)
    return rows
