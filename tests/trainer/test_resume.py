"""Runs that stop and go on: the same to the last bit, from any step, after damage, never as another run."""

import json
import os
import shutil

import pytest
import torch
from runs import Stopping, Worsening, best_weights, evaluation_of, history, run_small
from safetensors import safe_open

from trainer.engine.checkpoint import Progress, load_newest
from trainer.errors import Interrupted, TrainerError
from trainer.monitor.step_table import read_table
from trainer.saved_model import settle_best_model


def skipped_steps(record):
    return [note for note in record["notes"] if "steps were skipped" in note]


LINEAR = ("model.name=runs:MeanColours", "metric=loss", "optimizer.lr=0.03")  # better with every epoch
RESUMED = {
    "plain": (),
    "more": (
        "scheduler.name=cosine", "ema=0.9", "accumulate=2", "model.batch_norm=frozen", "model.freeze=backbone",
        "model.unfreeze_every=1", "optimizer.layer_decay=0.5",
    ),
    "skipping": ("model.options.nan_share=0.4", "scheduler.name=cosine", "ema=0.9", "accumulate=2"),
}  # fmt: skip


@pytest.mark.parametrize("name", RESUMED)
def test_a_run_goes_on_from_any_step_bit_for_bit(shards_folder, tmp_path, name, monkeypatch):
    extra = (*RESUMED[name], "model.name=runs:Stopping")
    record = run_small(shards_folder, tmp_path / "whole", *extra)
    assert bool(skipped_steps(record)) == (name == "skipping")
    per_step = 2 if "accumulate=2" in extra else 1  # forward passes
    every = [(step,) for step in (0, 2, 3, 5)]  # of three an epoch: first, last, first of the next, very last
    for stops in every if name == "plain" else [(0, 2)]:  # steps until each interruption of one run
        out, done = tmp_path / "-".join(map(str, stops)), 0
        for steps in stops:
            monkeypatch.setattr(Stopping, "stop_at", steps * per_step)
            epoch, step = divmod(done + steps, 3)
            position = f"stopped by SIGTERM at epoch {epoch + 1}, step {step + 1};"  # 3: before validation
            with pytest.raises(Interrupted, match=position):
                run_small(shards_folder, out, *extra, resume=done > 0)
            done += steps + 1
        again = run_small(shards_folder, out, *extra, resume=True)
        assert skipped_steps(again) == skipped_steps(record)
        assert history(out) == history(tmp_path / "whole")
        weights = best_weights(out)
        assert all(torch.equal(value, weights[name]) for name, value in best_weights(tmp_path / "whole").items())


@pytest.mark.parametrize("stop", [0, 3, 5])  # in the first interval, at its end before validation, in the next pass
def test_a_run_that_counts_in_steps_goes_on_bit_for_bit(shards_folder, tmp_path, stop, monkeypatch):
    own = ("model.name=runs:Stopping", "steps=8", "checkpoint_every_steps=4", "ema=0.9")  # of three to a pass
    record = run_small(shards_folder, tmp_path / "whole", *own)
    assert record["epochs_trained"] == 2 and record["best_step"] in (4, 8)
    assert [row["step"] for row in history(tmp_path / "whole")] == ["4", "8"]
    monkeypatch.setattr(Stopping, "stop_at", stop)
    with pytest.raises(Interrupted, match=f"stopped by SIGTERM at step {stop + 1};"):
        run_small(shards_folder, tmp_path / "run", *own)
    assert run_small(shards_folder, tmp_path / "run", *own, resume=True)["test"] == record["test"]
    assert history(tmp_path / "run") == history(tmp_path / "whole")
    weights = best_weights(tmp_path / "run")
    assert all(torch.equal(value, weights[name]) for name, value in best_weights(tmp_path / "whole").items())
    steps = [row["step"] for row in read_table(tmp_path / "run")]
    assert steps == ["4", "8"], "a row at the end of each interval"


def test_a_run_that_counts_in_steps_keeps_its_intervals(shards_folder, tmp_path):
    own = ("steps=4", "checkpoint_every_steps=2")
    run_small(shards_folder, tmp_path / "run", *own)
    with pytest.raises(TrainerError, match="checkpoint_every_steps 2 → 4"):
        run_small(shards_folder, tmp_path / "run", "steps=4", "checkpoint_every_steps=4", resume=True)
    with pytest.raises(TrainerError, match="steps 4 → None"):
        run_small(shards_folder, tmp_path / "run", resume=True)
    longer = run_small(shards_folder, tmp_path / "run", "steps=6", "checkpoint_every_steps=2", resume=True)
    assert longer["epochs_trained"] == 3


def test_time_is_over(shards_folder, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(Interrupted, match=rf"max_hours is over at epoch 1, step 1;.*--out {out} --resume") as caught:
        run_small(shards_folder, out, *LINEAR, "max_hours=1e-9")
    assert caught.value.exit_code == 75
    record = run_small(shards_folder, out, *LINEAR, "max_hours=1", resume=True)
    assert record["epochs_trained"] == 2


def test_resume_starts_where_nothing_is_and_stops_where_all_is_done(shards_folder, tmp_path, capfd):
    first = run_small(shards_folder, tmp_path / "run", *LINEAR, resume=True)
    said = capfd.readouterr().err
    assert f"nothing to resume in {tmp_path / 'run'}: starting at epoch 1\n" in said and "resuming" not in said
    assert run_small(shards_folder, tmp_path / "run", *LINEAR, resume=True) == first
    assert "is complete" in capfd.readouterr().err
    more = run_small(shards_folder, tmp_path / "run", *LINEAR, "epochs=3", resume=True)
    assert (more["epochs_trained"], len(history(tmp_path / "run"))) == (3, 3)


def test_resume_falls_back_from_a_damaged_checkpoint(shards_folder, tmp_path, capfd):
    out = tmp_path / "run"
    run_small(shards_folder, out, *LINEAR)
    expected = history(out)
    newest = max((out / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:1000])
    run_small(shards_folder, out, *LINEAR, resume=True)
    said = capfd.readouterr().err
    assert f"{newest} is damaged" in said
    assert "resuming at epoch 2, step 0" in said
    assert history(out) == expected


def damage_checkpoints(out):
    for path in (out / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_checkpoints, "every checkpoint in it is damaged"),
        (lambda out: shutil.rmtree(out / "checkpoints"), "holds a run, but no checkpoint to resume from"),
        (
            lambda out: (out / "models" / "best_model.pth").unlink(),
            r"best_model\.pth is missing, the best model so far",
        ),
        (lambda out: (out / "models" / "best_model.pth").write_bytes(b"PK"), r"best_model\.pth cannot be read"),
    ],
    ids=["damaged", "none", "no model", "cut"],
)
def test_a_run_that_has_lost_a_part_is_not_overwritten(shards_folder, tmp_path, damage, message):
    out = tmp_path / "run"
    run_small(shards_folder, out, *LINEAR, "epochs=1")
    damage(out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(TrainerError, match=message) as caught:
        run_small(shards_folder, out, *LINEAR, resume=True)
    assert str(out) in str(caught.value) and "another --out" in str(caught.value)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_complete_run_needs_no_model_to_say_so(shards_folder, tmp_path):
    record = run_small(shards_folder, tmp_path / "run", *LINEAR, "epochs=1")
    (tmp_path / "run" / "models" / "best_model.pth").unlink()
    assert run_small(shards_folder, tmp_path / "run", *LINEAR, "epochs=1", resume=True) == record


def test_only_a_run_that_begins_starts_from_scratch(shards_folder, tmp_path, capfd):
    run_small(shards_folder, tmp_path / "run", "epochs=1", "model.weights=auto")
    assert "what is random starts from scratch" in capfd.readouterr().err
    run_small(shards_folder, tmp_path / "run", "model.weights=auto", resume=True)
    said = capfd.readouterr().err
    assert "resuming at epoch 2" in said and "from scratch" not in said


def test_the_opening_names_the_backbone_of_our_own_model_alone(shards_folder, tmp_path, capfd):
    run_small(shards_folder, tmp_path / "a", "epochs=1")
    assert "resnet_lstm on tiny, 0." in capfd.readouterr().err
    run_small(shards_folder, tmp_path / "b", "epochs=1", "model.name=runs:MeanColours")
    assert "\nruns:MeanColours, 0.0 M parameters; " in capfd.readouterr().err


def test_resume_refuses_other_settings_and_shards(shards_folder, raw_folder, tmp_path):
    run_small(shards_folder, tmp_path / "run")
    with pytest.raises(TrainerError, match=r"other settings \(optimizer\.lr"):
        run_small(shards_folder, tmp_path / "run", "optimizer.lr=1", resume=True)
    with pytest.raises(TrainerError, match="other shards"):
        run_small(raw_folder, tmp_path / "run", resume=True)


def test_out_of_memory_is_remembered(shards_folder, tmp_path, capfd):
    out, own = tmp_path / "run", ("model.name=runs:Hungry", "model.options.most=4")
    record = run_small(shards_folder, out, *own, "epochs=1")
    assert "accumulate=2), 4 clips at a time" in capfd.readouterr().err
    assert "memory ran out: from then on, steps were taken in 2 parts" in record["notes"]
    assert record["settings"]["accumulate"] == 1, "as it was asked for, so that the same command goes on"
    run_small(shards_folder, out, *own, resume=True)
    assert "out of memory" not in capfd.readouterr().err


class Killed(BaseException):
    """As no handler of the run's own would catch it."""


@pytest.fixture
def kill_at(monkeypatch):
    """Kill the run at the nth file that gets its name."""
    replace = os.replace

    def begin(nth):
        counted = iter(range(1, nth))

        def count(old, new):
            if next(counted, None) is None:
                raise Killed(new)
            replace(old, new)

        monkeypatch.setattr(os, "replace", count)

    yield begin
    monkeypatch.setattr(os, "replace", replace)


@pytest.mark.parametrize(
    ("nth", "cut_at", "epoch"),
    [
        (9, ".best_model.safetensors.new", 1),
        (11, "step-00000006-", 1),
        (12, "best_model.pth", 2),
        (13, "best_model.safetensors", 2),
    ],
)
def test_wherever_it_is_cut_off_the_best_model_is_the_checkpoints(
    shards_folder, tmp_path, monkeypatch, kill_at, nth, cut_at, epoch
):
    out, models = tmp_path / "run", tmp_path / "run" / "models"
    kill_at(nth)  # the first is config.yaml, then six with every epoch
    with pytest.raises(Killed, match=cut_at):
        run_small(shards_folder, out, *LINEAR)
    monkeypatch.undo()
    progress = Progress(**load_newest(out / "checkpoints")["progress"])
    settle_best_model(out, progress)
    assert progress.best_epoch == epoch == progress.epoch
    assert torch.load(models / "best_model.pth", weights_only=True)["epoch"] == epoch
    with safe_open(models / "best_model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["epoch"]) == epoch
    assert not list(models.glob(".*.new"))


def test_a_model_without_its_checkpoint_is_not_the_one_that_is_reported(shards_folder, tmp_path, monkeypatch, kill_at):
    """Where the epoch, trained once more, is worse, as it may be on another machine."""
    out, own = tmp_path / "run", ("model.name=runs:Worsening", *LINEAR[1:])
    kill_at(11)
    with pytest.raises(Killed, match="step-00000006-"):
        run_small(shards_folder, out, *own)
    monkeypatch.undo()
    monkeypatch.setattr(Worsening, "is_bad", True)
    with pytest.raises(Interrupted):
        run_small(shards_folder, out, *own, "epochs=3", "max_hours=1e-9", resume=True)
    assert torch.load(out / "models" / "best_model.pth", weights_only=True)["epoch"] == 1
    run_small(shards_folder, out, *own, resume=True)
    monkeypatch.setattr(Worsening, "is_bad", False)
    first, second = (float(row["val_loss"]) for row in history(out))
    assert first < second
    evaluated = evaluation_of(out, shards_folder, "val", model_class="runs:Worsening")
    assert evaluated["loss"] == pytest.approx(first, rel=1e-5)


def test_a_model_newer_than_the_checkpoint_stays_the_best_and_another_is_refused(shards_folder, tmp_path, capfd):
    out = tmp_path / "run"
    run_small(shards_folder, out, *LINEAR)
    newest = max((out / "checkpoints").iterdir())
    newest.unlink()
    record = run_small(shards_folder, out, *LINEAR, resume=True)
    assert "best_model.pth is of epoch 2, after the checkpoint; it stays until one is better" in capfd.readouterr().err
    assert (record["best_epoch"], record["epochs_trained"]) == (2, 2)
    assert float(history(out)[1]["val_loss"]) == pytest.approx(record["validation"]["loss"])
    saved = torch.load(out / "models" / "best_model.pth", weights_only=True)
    torch.save(saved | {"threshold": 0.9}, out / "models" / "best_model.pth")
    with pytest.raises(
        TrainerError, match=r"best_model\.pth is not the best model so far, which is of epoch 2; put it"
    ):
        run_small(shards_folder, out, *LINEAR, "epochs=3", resume=True)


def test_a_run_that_is_stopped_in_validation_begins_with_it_again(shards_folder, tmp_path, monkeypatch):
    own, out = ("model.name=runs:Stopping", "batch_size=4", "ema=0.9", "epochs=1"), tmp_path / "run"
    run_small(shards_folder, tmp_path / "whole", *own)
    monkeypatch.setattr(Stopping, "stop_scoring", True)
    with pytest.raises(Interrupted, match=r"stopped by SIGTERM at epoch 1, step \d+; a checkpoint is written"):
        run_small(shards_folder, out, *own)
    assert not (out / "results").exists()
    run_small(shards_folder, out, *own, resume=True)
    assert history(out) == history(tmp_path / "whole")
    weights = best_weights(out)
    assert all(torch.equal(value, weights[name]) for name, value in best_weights(tmp_path / "whole").items())
