"""Plain lines off a terminal: no carriage returns, and what the numbers mean."""

import sys

import pytest
import torch

from trainer import monitor
from trainer.settings import load_settings


@pytest.fixture
def every_step(monkeypatch):
    monkeypatch.setattr(monitor, "LINE_SECONDS", 0.0)


def test_lines_off_a_terminal(every_step, capfd):
    display = monitor.Monitor("epoch 2/5", 10, 4, True)
    display.update(4, 16, torch.tensor([8.0, 12.0, 16.0]), 0.0)
    display.close()
    out, err = capfd.readouterr()
    assert out == ""
    assert "\r" not in err
    assert err.startswith("epoch 2/5: step 5/10, loss 0.500, accuracy 0.750, ")
    assert "data wait 0.0%" in err
    assert display.clips == 16


def test_only_the_first_process_speaks(every_step, capfd):
    display = monitor.Monitor("epoch 1/1", 1, 0, False)
    display.update(0, 4, torch.ones(3), 0.0)
    display.close()
    assert capfd.readouterr().err == ""


def test_a_bar_on_a_terminal(capfd, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(monitor, "BAR_SECONDS", 0.0)
    display = monitor.Monitor("epoch 1/1", 2, 0, True)
    display.update(0, 4, torch.tensor([4.0, 2.0, 4.0]), 0.0)
    display.update(1, 4, torch.tensor([4.0, 2.0, 4.0]), 0.0)
    assert display.close() > 0
    assert "epoch 1/1" in capfd.readouterr().err


def test_an_epoch_in_a_line():
    row = {
        "epoch": 3, "train_loss": 0.5, "train_accuracy": 0.75, "val_loss": 0.25, "val_auc_roc": None,
        "clips_per_second": 100.0, "data_wait": 0.01, "epoch_seconds": 2.0,
    }  # fmt: skip
    settings = load_settings(None, ("epochs=9",))
    assert monitor.epoch_line(row, settings, True) == (
        "epoch 3/9: loss 0.5000, accuracy 0.750; validation: loss 0.2500, auc_roc undefined *; 100 clips/s, "
        "data wait 1.0%, 2.0 s"
    )
    assert "auc_roc 0.9000;" in monitor.epoch_line(row | {"val_auc_roc": 0.9}, settings, False)
