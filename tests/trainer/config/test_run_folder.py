"""A run's folder is one run's: taken when it is chosen, held while it is written to, never one of other things."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from shardify.errors import BusyError
from trainer.config.run_folder import (
    LOCK,
    RECORD,
    check_free,
    choose_out,
    chosen_folder,
    has_trained,
    hold_folder,
    read_record,
    settings_of,
)
from trainer.errors import SettingsError


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    monkeypatch.delenv("TRAINER_OUT", raising=False)
    monkeypatch.chdir(tmp_path)


def contents(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def test_two_that_choose_at_once_take_two_folders():
    assert [str(choose_out(None, None, False)) for _ in range(3)] == ["runs/run", "runs/run-2", "runs/run-3"]
    assert sorted(os.listdir("runs")) == ["run", "run-2", "run-3"]


def test_a_folder_that_another_process_takes_meanwhile_is_not_shared(monkeypatch):
    monkeypatch.setattr(Path, "glob", lambda *arguments: iter(()))  # as both look before either has made it
    assert [str(choose_out(None, None, False)) for _ in range(3)] == ["runs/run", "runs/run-2", "runs/run-3"]


def test_where_no_folder_can_be_made_one_line_says_so(tmp_path):
    (tmp_path / "runs").symlink_to("unmounted")
    with pytest.raises(SettingsError, match=r"^runs cannot be made \(File exists\); fix that, or pass --out$"):
        choose_out(None, None, False)


def test_a_name_with_brackets_is_no_pattern():
    config = Path("lr[1].yaml")
    assert [str(choose_out(None, config, False)) for _ in range(2)] == ["runs/lr[1]", "runs/lr[1]-2"]
    (Path("runs") / "lr[1]" / LOCK).touch()
    assert str(choose_out(None, config, True)) == "runs/lr[1]"


def test_resume_takes_the_newest_run(tmp_path):
    assert str(choose_out(None, None, True)) == "runs/run"
    for name in ("run-2", "run-10", "runner", "run-x"):
        (tmp_path / "runs" / name).mkdir()
        (tmp_path / "runs" / name / LOCK).touch()
    (tmp_path / "runs" / "run-12").mkdir()  # empty: of a process that was killed before it began
    assert str(choose_out(None, None, True)) == "runs/run-10"
    assert str(choose_out(None, None, False)) == "runs/run-13"
    assert str(choose_out(None, Path("configs/fast.yaml"), True)) == "runs/fast"


def test_processes_that_another_has_started_are_told_the_folder(monkeypatch):
    monkeypatch.setenv("TRAINER_OUT", "chosen")
    assert choose_out(None, None, False) == choose_out(Path("mine"), None, True) == Path("chosen")
    assert os.listdir() == []


def test_a_new_folder_that_stays_empty_goes():
    with chosen_folder(None, None, False) as chosen:
        assert chosen.is_dir()
    assert os.listdir("runs") == []
    with chosen_folder(None, None, False) as chosen:
        (chosen / LOCK).touch()
    Path("mine").mkdir()
    with chosen_folder(Path("mine"), None, False):
        pass
    assert Path("mine").is_dir() and os.listdir("runs") == ["run"]


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_of_other_things_is_refused_and_left_as_it_is(tmp_path, resume):
    """A config.yaml, models/ and results/ are not enough: many projects have them."""
    for name in ("config.yaml", "results/evaluation/mine.csv", "models/best_model.pth", "checkpoints/step-1.pth"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("epochs: 3")
    before = contents(tmp_path)
    message = (
        rf"{tmp_path} holds checkpoints, config.yaml, models and 1 more, but no run; pass an empty or a new folder"
    )
    with pytest.raises(SettingsError, match=message), hold_folder(tmp_path, resume):
        raise AssertionError("not taken")
    with pytest.raises(SettingsError, match=message):
        choose_out(tmp_path, None, resume)
    assert contents(tmp_path) == before
    assert settings_of(tmp_path, resume) is None


@pytest.mark.parametrize("sign", [LOCK, f"checkpoints/step-00000003-{'a' * 16}.pth"])
def test_a_run_is_gone_on_with_and_not_begun_again(tmp_path, sign):
    (tmp_path / sign).parent.mkdir(exist_ok=True)
    (tmp_path / sign).touch()
    assert settings_of(tmp_path, True) is None
    (tmp_path / "config.yaml").write_text("model.dropout: 0.5")
    with pytest.raises(SettingsError, match="holds a run already; pass --resume"):
        check_free(tmp_path, False)
    check_free(tmp_path, True)
    assert settings_of(tmp_path, True) == {"model": {"dropout": 0.5}}
    assert settings_of(tmp_path, False) is None


def test_one_run_at_a_time(tmp_path):
    with hold_folder(tmp_path / "run", False):
        (tmp_path / "run" / "config.yaml").touch()
        for resume in (True, False):
            with pytest.raises((BusyError, SettingsError)) as caught, hold_folder(tmp_path / "run", resume):
                raise AssertionError("held twice")
            if resume:
                assert caught.value.exit_code == 4 and "another process is writing here; wait" in str(caught.value)
    with hold_folder(tmp_path / "run", True):
        assert (tmp_path / "run" / LOCK).exists()


def test_a_folder_in_which_nothing_was_written_does_not_stay(tmp_path):
    with pytest.raises(ZeroDivisionError), hold_folder(tmp_path / "new", False):
        raise ZeroDivisionError
    (tmp_path / "given").mkdir()
    with pytest.raises(ZeroDivisionError), hold_folder(tmp_path / "given", False):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == ["given"] and os.listdir(tmp_path / "given") == []


def test_a_lock_that_was_taken_away_holds_nothing(tmp_path, monkeypatch):
    """Opened before the first run took it away with the folder, locked after that."""
    path, flock = tmp_path / "run", fcntl.flock
    monkeypatch.setattr(fcntl, "flock", lambda *arguments: ((path / LOCK).unlink(), flock(*arguments)))
    with pytest.raises(BusyError), hold_folder(path, False):
        raise AssertionError("not held")


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, caplog):
    def flock(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with hold_folder(tmp_path / "run", False):
        (tmp_path / "run" / "config.yaml").touch()
    assert caplog.messages == [
        f"{tmp_path / 'run'}: no locks on its file system (No locks available); see to it that no other process "
        "writes here"
    ]


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '[{"test": {}}]', '{"test": 1}', b"\xff"])
def test_a_damaged_record_is_none(tmp_path, text):
    (tmp_path / RECORD).parent.mkdir()
    (tmp_path / RECORD).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert read_record(tmp_path) is None
    (tmp_path / RECORD).write_text('{"test": {"clips": 3}}')
    assert read_record(tmp_path) == {"test": {"clips": 3}}


def test_a_history_is_counted_whatever_it_holds(tmp_path):
    history = tmp_path / "results" / "training_history.csv"
    history.parent.mkdir()
    history.write_bytes(b"epoch\n1\n")
    assert not has_trained(tmp_path)
    history.write_bytes(b"epoch\n1\n\xff\n")
    assert has_trained(tmp_path)
