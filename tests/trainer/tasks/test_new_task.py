"""A task that the trainer has never heard of: its sums, figures and columns come through, also in a checkpoint."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
from runs import history, run_small

from trainer import tasks
from trainer.config.settings import LOSSES, LossSettings, Positive
from trainer.engine.checkpoint import load_newest
from trainer.errors import Interrupted
from trainer.tasks.regression.task import Regression


@dataclass(frozen=True, kw_only=True)
class BoundedLoss(LossSettings):
    name: str = "bounded"
    scale: Positive = 1.0


class Bounded(Regression):
    """Regression that also counts the values that are above their targets."""

    metrics = ("rmse", "mae")
    history = ("rmse",)
    train_metrics: ClassVar = Regression.train_metrics | {"above": "share_above"}
    plots = ("values.png",)

    def clip_values(self, outputs, labels):
        return super().clip_values(outputs, labels) | {"above": outputs[:, 0].float() > labels}


def test_a_task_is_a_class_and_a_line_of_the_registry(shards_folder, tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(tasks.TASKS, (BoundedLoss,), (f"{__name__}:Bounded",))
    monkeypatch.setitem(LOSSES, "bounded", BoundedLoss)
    own, out = ("loss={name: bounded, scale: 2}",), tmp_path / "run"
    with pytest.raises(Interrupted):
        run_small(shards_folder, out, *own, "max_hours=1e-9")
    state = load_newest(out / "checkpoints")["progress"]
    assert list(state["sums"]) == ["loss", "absolute_error", "above", "clips"] and state["sums"]["clips"] == 8
    assert state["sums"]["above"] in range(9)
    record = run_small(shards_folder, out, *own, resume=True)
    assert record["metric"] == "rmse" and set(record["test_intervals"]) == {"mae", "rmse", "r2", "pearson"}
    rows = history(out)
    assert [name for name in rows[0] if name[:3] in ("tra", "val")] == [
        "train_loss", "train_mae", "train_share_above", "val_loss", "val_rmse",
    ]  # fmt: skip
    assert {20 * float(row["train_share_above"]) for row in rows} <= set(range(21))
    assert ", share_above 0." in capfd.readouterr().err, "in the line of an epoch"
    assert [path.name for path in (out / "results" / "evaluation").iterdir()] == ["values.png"]
    run_small(shards_folder, tmp_path / "whole", *own)
    assert history(tmp_path / "whole") == rows
