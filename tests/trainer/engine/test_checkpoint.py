"""Checkpoints are whole or absent; another run's are refused with the difference named."""

import pytest
import torch

from shardify.storage.local import write_atomically
from trainer.config.load import load_settings
from trainer.engine.checkpoint import check_resumable, list_checkpoints, load_newest, save_checkpoint
from trainer.errors import TrainerError


def state_of(*overrides):
    return {"settings": load_settings(None, overrides).to_dict(), "shards": "abc"}


def test_the_newest_comes_back_and_old_ones_go(tmp_path):
    for step in (5, 10, 15, 20):
        save_checkpoint(tmp_path, {"step": step, "tensor": torch.ones(3)}, step, keep=2)
    assert [path.name[:13] for path in list_checkpoints(tmp_path)] == ["step-00000020", "step-00000015"]
    assert len(list(tmp_path.iterdir())) == 2
    assert load_newest(tmp_path)["step"] == 20


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_newest_falls_back_loudly(tmp_path, damage, caplog):
    save_checkpoint(tmp_path, {"step": 1}, 1, keep=2)
    path = save_checkpoint(tmp_path, {"step": 2}, 2, keep=2)
    payload = path.read_bytes()
    path.write_bytes({"cut": payload[:-1], "flip": payload[:-1] + b"?", "empty": b""}[damage])
    assert load_newest(tmp_path)["step"] == 1
    assert caplog.messages == [f"{path} is damaged; falling back to the checkpoint before it"]


def test_without_a_sound_one_nothing_starts_again(tmp_path, caplog):
    paths = [save_checkpoint(tmp_path, {"step": step}, step, keep=3) for step in (1, 2, 3)]
    for path in paths:
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(TrainerError, match=rf"{tmp_path}: every checkpoint in it is damaged .* another --out"):
        load_newest(tmp_path)
    assert [message.split()[0] for message in caplog.messages] == [str(paths[2]), str(paths[1])]


def test_a_file_of_something_else_is_one_line(tmp_path):
    path = save_checkpoint(tmp_path, ["not", "a", "state"], 1, keep=1)
    with pytest.raises(TrainerError, match=rf"{path.name}: cannot be read \(it holds a list, not a run's state\)"):
        load_newest(tmp_path)


def test_of_two_of_one_step_the_newer_stays(tmp_path):
    """Before and after an epoch's validation; which hash is greater is chance."""
    save_checkpoint(tmp_path, {"step": 5}, 5, keep=3)
    for validated in (False, True, False, True):
        save_checkpoint(tmp_path, {"validated": validated}, 10, keep=3)
        assert load_newest(tmp_path)["validated"] == validated
    assert len(list_checkpoints(tmp_path)) == 2


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    (tmp_path / ".step-00000001-0123456789abcdef.pth.tmp").write_bytes(b"unfinished")
    path = save_checkpoint(tmp_path, {"step": 2}, 2, keep=2)
    assert list(tmp_path.iterdir()) == [path]


def test_going_on_after_a_damaged_one_keeps_the_new_one(tmp_path):
    save_checkpoint(tmp_path, {"step": 20}, 20, keep=1).write_bytes(b"")
    save_checkpoint(tmp_path, {"step": 15}, 15, keep=1)
    assert load_newest(tmp_path)["step"] == 15


def test_none_there(tmp_path):
    (tmp_path / ".step-00000001-0123456789abcdef.pth.tmp").write_bytes(b"unfinished")
    assert load_newest(tmp_path) is None
    assert load_newest(tmp_path / "nothing") is None


def test_the_same_run_goes_on():
    new = load_settings(None, ("max_hours=2", "data.workers=3", "data.cache=none", "epochs=99")).to_dict()
    check_resumable(state_of(), new, "abc")


def test_a_run_of_0_2_0_is_resumed_whose_checkpoint_has_the_settings_of_all_losses():
    state = state_of("loss.name=focal", "scheduler.name=cosine")
    state["settings"]["loss"] |= {"smoothing": 0.0}
    state["settings"]["scheduler"] |= {"factor": 0.5, "patience": 3}
    new = load_settings(None, ("loss.name=focal", "scheduler.name=cosine")).to_dict()
    check_resumable(state, new, "abc")
    del state["settings"]["ema"]  # a setting that an earlier version did not have stood at its default
    check_resumable(state, new, "abc")
    with pytest.raises(TrainerError, match=r"\(ema 0\.0 → 0\.9\)"):
        check_resumable(state, new | {"ema": 0.9}, "abc")


@pytest.mark.parametrize(
    ("overrides", "shards", "message"),
    [
        (("optimizer.lr=1",), "abc", r"optimizer\.lr 0\.0003 → 1"),
        (("seed=1", "batch_size=4"), "abc", r"batch_size 16 → 4, seed 0 → 1"),
        (("model.options.depth=2",), "abc", r"model\.options"),
        ((), "abd", "other shards"),
    ],
)
def test_another_run_is_refused(overrides, shards, message):
    with pytest.raises(TrainerError, match=message):
        check_resumable(state_of(), load_settings(None, overrides).to_dict(), shards)


def test_with_a_cosine_schedule_the_epochs_matter():
    new = load_settings(None, ("scheduler.name=cosine", "epochs=99")).to_dict()
    with pytest.raises(TrainerError, match="epochs 25 → 99"):
        check_resumable(state_of("scheduler.name=cosine"), new, "abc")


def test_atomic_writing_leaves_the_old_file_or_the_new(tmp_path):
    path = tmp_path / "folder" / "file"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]
    with pytest.raises(OSError, match="folder"):
        write_atomically(path.parent, b"a file of this name cannot be")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"], "on a full disk it would stay"
