"""TensorBoard events of a run, for `tensorboard=true`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import SettingsError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def open_events(run_folder: Path, first_step: int) -> SummaryWriter:
    """A run's writer; what an earlier process wrote from `first_step` on is superseded."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(run_folder / "tensorboard"), purge_step=first_step)


def check_installed() -> None:
    """Raises SettingsError where TensorBoard is not installed."""
    try:
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise SettingsError("tensorboard=true needs TensorBoard: pip install tensorboard") from error


def write_events(writer: SummaryWriter, figures: dict[str, float | None], step: int) -> None:
    """Write one point per figure, train_loss as train/loss; what has no value has no point."""
    for name, value in figures.items():
        if value is not None:
            group, _, rest = name.partition("_")
            writer.add_scalar(f"{group}/{rest}" if group in ("train", "val") else f"run/{name}", value, step)
    writer.flush()
