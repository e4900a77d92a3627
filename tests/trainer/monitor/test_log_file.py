"""The log file of a run: what it holds, however the run ends."""

import logging
import re
from types import SimpleNamespace

import pytest
from runs import run_small

from trainer.errors import Interrupted, SettingsError
from trainer.monitor import log_file
from trainer.monitor.log_file import RunLog

OWN = ("model.name=runs:MeanColours",)


def logs(run):
    return [path.read_text(encoding="utf-8") for path in sorted((run / "logs").iterdir())]


def test_settings_epochs_and_the_end_of_every_session(shards_folder, tmp_path, monkeypatch):
    times = iter(["20300102_030405", "20300102_040506", "20300102_050607"])
    monkeypatch.setattr(log_file, "time", SimpleNamespace(strftime=lambda _: next(times)))
    before, out = logging.getLogger().handlers[:], tmp_path / "run"
    with pytest.raises(Interrupted):
        run_small(shards_folder, out, *OWN, "max_hours=1e-9")
    run_small(shards_folder, out, *OWN, resume=True)
    assert run_small(shards_folder, out, *OWN, resume=True), "nothing is left to train, so nothing is written"
    assert [path.name for path in sorted((out / "logs").iterdir())] == [
        "training_20300102_030405.log", "training_20300102_040506.log",
    ]  # fmt: skip
    first, second = logs(out)
    assert "INFO trainer: model.name: runs:MeanColours\n" in first and "INFO trainer: command: " in first
    assert "the run has stopped: max_hours" in first.splitlines()[-1] and " ERROR " in first.splitlines()[-1]
    assert re.search(
        r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO trainer\.train: epoch 2/2: loss ", second, re.MULTILINE
    )
    assert second.endswith("INFO trainer: the run is complete\n")
    assert logging.getLogger().handlers == before


def test_a_run_that_is_refused_leaves_nothing(shards_folder, tmp_path):
    with pytest.raises(SettingsError):
        run_small(shards_folder, tmp_path / "run", "loss.name=mse", "data.balanced=true")
    assert not (tmp_path / "run").exists()


def test_what_was_said_before_the_file_is_in_it_and_every_line_at_once(tmp_path):
    logger = logging.getLogger("trainer.somewhere")
    with RunLog() as log:
        logger.warning("early")
        log.open(tmp_path, {"epochs": 3})
        logger.info("a name\nof two lines")
        (text,) = logs(tmp_path)  # while the run goes on: a process that is killed writes nothing more
        assert text.splitlines()[0].endswith(" INFO trainer: epochs: 3")
        assert "WARNING trainer.somewhere: early\n" in text and text.endswith(
            "INFO trainer.somewhere: a name\\nof two lines\n"
        )


def test_messages_of_other_libraries_are_kept_and_still_shown(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with RunLog() as log:
        log.open(tmp_path, {})
        logging.getLogger("somebody.else").warning("their warning")
        logging.getLogger("trainer.somewhere").warning("ours")  # which the command shows by itself
    assert capfd.readouterr().err.splitlines().count("their warning") == 1
    assert "WARNING somebody.else: their warning\n" in logs(tmp_path)[0]


def test_a_fault_of_the_program_has_its_traceback(tmp_path):
    with pytest.raises(ZeroDivisionError), RunLog() as log:
        log.open(tmp_path, {})
        raise ZeroDivisionError("why")
    (text,) = logs(tmp_path)
    assert "the run has stopped (ZeroDivisionError)\nTraceback" in text and "in test_a_fault" in text
