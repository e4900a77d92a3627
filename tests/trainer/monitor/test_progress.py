"""Plain lines off a terminal: no carriage returns, and what the numbers mean; events and profiles on request."""

import sys

import pytest
import torch
from runs import CPU, SMALL, run_small

from shardify import text
from trainer.config.load import load_settings
from trainer.config.settings import Settings
from trainer.devices.distributed import Group
from trainer.errors import SettingsError
from trainer.monitor import progress, tensorboard
from trainer.train import prepare


@pytest.fixture
def run(shards_folder, tmp_path):
    """20 clips in batches of 4, five epochs, none of them trained yet."""
    settings = load_settings(None, (*SMALL, "batch_size=4", "epochs=5"))
    return prepare(settings, shards_folder, tmp_path / "run", Group(0, 1, CPU), None)


def sums(loss, correct, clips):
    return {"loss": torch.tensor(loss), "correct": torch.tensor(correct), "clips": torch.tensor(clips)}


@pytest.fixture
def every_step(monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)


def test_lines_off_a_terminal(run, every_step, capfd):
    run.progress.epoch, run.progress.step = 1, 2
    display = progress.Monitor(run)
    display.update(2, 16, sums(8.0, 12.0, 16.0), 0.0)
    display.close()
    out, err = capfd.readouterr()
    assert out == ""
    assert "\r" not in err
    assert err.startswith("epoch 2/5: step 3/5, loss 0.500, accuracy 0.750, ")
    assert "data wait 0.0%, cache 0%, lr 0.003, " in err and err.endswith(" left\n")
    assert display.clips == 16


def test_the_time_left_is_that_of_all_epochs(run, every_step, capfd, monkeypatch):
    times = iter([100.0, 103.0, 106.0, 110.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    run.progress.epoch = 3
    display = progress.Monitor(run)  # 10 of 25 steps are to come
    display.update(0, 4, sums(1.0, 1.0, 1.0), 0.0)
    display.update(1, 4, sums(1.0, 1.0, 1.0), 0.0)
    display.close()
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].endswith("27 s left") and lines[1].endswith("24 s left")  # 9 and 8 steps of 3 s


def test_durations():
    shown = [text.duration(seconds) for seconds in (0.4, 45, 89, 91, 720, 5300, 5500, 90000)]
    assert shown == ["0 s", "45 s", "89 s", "2 min", "12 min", "88 min", "1.5 h", "25.0 h"]


def test_the_gpus_part_of_the_line():
    figures = {
        "train_loss": 1.5,
        "train_accuracy": 0.25,
        "lr": 3e-4,
        "clips_per_second": 99.6,
        "data_wait": 0.004,
        "cache_hits": 0.5,
    }
    assert progress.live_line(figures, 720) == (
        "loss 1.500, accuracy 0.250, 100 clips/s, data wait 0.4%, cache 50%, lr 0.0003, 12 min left"
    )
    on_gpu = progress.live_line(figures | {"gpu_memory_gb": 5.25, "gpu_memory_share": 0.33, "gpu_use": 0.97}, 720)
    assert "lr 0.0003, GPU 5.2 GB (33%), 97% busy, 12 min left" in on_gpu
    assert progress.gpu_figures(CPU) == {}


def test_only_the_first_process_speaks(run, every_step, capfd):
    run.group = Group(1, 2, CPU)
    display = progress.Monitor(run)
    display.update(0, 4, sums(1.0, 1.0, 1.0), 0.0)
    display.close()
    assert capfd.readouterr().err == ""


def test_a_bar_on_a_terminal(run, capfd, monkeypatch):
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress, "BAR_SECONDS", 0.0)
    display = progress.Monitor(run)
    display.update(0, 4, sums(4.0, 2.0, 4.0), 0.0)
    display.update(1, 4, sums(4.0, 2.0, 4.0), 0.0)
    assert display.close() > 0
    assert "epoch 1/5" in capfd.readouterr().err


def test_lines_in_a_notebook_whose_commands_see_a_terminal(run, every_step, capfd, monkeypatch):
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    display = progress.Monitor(run)
    display.update(0, 4, sums(4.0, 2.0, 4.0), 0.0)
    display.close()
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("epoch 1/5: step 1/5, loss 1.000, ")


def test_events_and_a_profile_on_request(shards_folder, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    record = run_small(shards_folder, tmp_path / "run", "tensorboard=true", "profile=true")
    found = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    points = {name: [(point.step, point.value) for point in found.Scalars(name)] for name in found.Tags()["scalars"]}
    assert [step for step, _ in points["val/auc_roc"]] == [3, 6]  # two epochs of three steps
    assert points["train/loss"][-1][1] == pytest.approx(record_of_last_epoch(tmp_path / "run")["train_loss"])
    assert {"run/lr", "run/data_wait", "run/clips_per_second", "val/loss"} <= set(points)
    assert "forward" in (tmp_path / "run" / "profile" / "table.txt").read_text()
    assert (tmp_path / "run" / "profile" / "trace.json").stat().st_size > 1000
    assert record["settings"]["tensorboard"] is True


def record_of_last_epoch(out):
    header, *_, last = (out / "results" / "training_history.csv").read_text().splitlines()
    return {name: float(value) for name, value in zip(header.split(","), last.split(","), strict=True) if value}


def test_without_tensorboard_the_error_says_what_to_install(shards_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(SettingsError, match="pip install tensorboard"):
        run_small(shards_folder, tmp_path / "run", "tensorboard=true")
    assert not (tmp_path / "run").exists()
    with pytest.raises(SettingsError):
        tensorboard.check_installed()


def test_an_epoch_in_a_line():
    row = {
        "epoch": 3, "train_loss": 0.5, "train_accuracy": 0.75, "val_loss": 0.25, "val_auc_roc": None,
        "clips_per_second": 100.0, "data_wait": 0.01, "epoch_seconds": 2.0,
    }  # fmt: skip
    assert progress.epoch_line(row, Settings(epochs=9), "auc_roc", True) == (
        "epoch 3/9: loss 0.5000, accuracy 0.750; validation: loss 0.2500, auc_roc undefined *; 100 clips/s, "
        "data wait 1.0%, 2.0 s"
    )
    assert "auc_roc 0.9000;" in progress.epoch_line(row | {"val_auc_roc": 0.9}, Settings(epochs=9), "auc_roc", False)
