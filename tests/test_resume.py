"""Runs that stop and go on: the same to the last bit, from any step, after damage, never as another run."""

import shutil

import pytest
import torch
from runs import Stopping, best_weights, history, run_small

from trainer.errors import Interrupted, TrainerError


def skipped_steps(record):
    return [note for note in record["notes"] if "steps were skipped" in note]


RESUMED = {
    "plain": (),
    "more": ("scheduler.name=cosine", "ema=0.9", "accumulate=2", "model.batch_norm=frozen"),
    "thawing": ("model.freeze=backbone", "model.unfreeze_every=1", "optimizer.layer_decay=0.5", "ema=0.9"),
    "skipping": ("model.options.nan_share=0.4", "scheduler.name=cosine", "ema=0.9", "accumulate=2"),
}


@pytest.mark.parametrize("name", RESUMED)
def test_a_run_goes_on_from_any_step_bit_for_bit(shards_folder, tmp_path, name, monkeypatch):
    extra = (*RESUMED[name], "model.name=runs:Stopping")
    record = run_small(shards_folder, tmp_path / "whole", *extra)
    assert bool(skipped_steps(record)) == (name == "skipping")
    per_step = 2 if "accumulate=2" in extra else 1  # forward passes
    every = [(step,) for step in range(5)]  # the last step ends the run: nothing is left to go on with
    for stops in every if name == "plain" else [(2,), (0, 2)]:  # steps until each interruption of one run
        out, done = tmp_path / "-".join(map(str, stops)), 0
        for steps in stops:
            monkeypatch.setattr(Stopping, "stop_at", steps * per_step)
            position = f"stopped by SIGTERM at epoch {(done + steps + 1) // 3 + 1}, step {(done + steps + 1) % 3};"
            with pytest.raises(Interrupted, match=position):
                run_small(shards_folder, out, *extra, resume=done > 0)
            done += steps + 1
        again = run_small(shards_folder, out, *extra, resume=True)
        assert skipped_steps(again) == skipped_steps(record)
        assert history(out) == history(tmp_path / "whole")
        weights = best_weights(out)
        assert all(torch.equal(value, weights[name]) for name, value in best_weights(tmp_path / "whole").items())


def test_time_is_over(shards_folder, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(Interrupted, match=rf"max_hours is over at epoch 1, step 1;.*--out {out} --resume") as caught:
        run_small(shards_folder, out, "max_hours=1e-9")
    assert caught.value.exit_code == 75
    record = run_small(shards_folder, out, "max_hours=1", resume=True)
    assert record["epochs_trained"] == 2


def test_resume_starts_where_nothing_is_and_stops_where_all_is_done(shards_folder, tmp_path, capfd):
    first = run_small(shards_folder, tmp_path / "run", resume=True)
    said = capfd.readouterr().err
    assert f"nothing to resume in {tmp_path / 'run'}: starting at epoch 1\n" in said and "going on" not in said
    assert run_small(shards_folder, tmp_path / "run", resume=True) == first
    assert "is complete" in capfd.readouterr().err
    more = run_small(shards_folder, tmp_path / "run", "epochs=3", resume=True)
    assert (more["epochs_trained"], len(history(tmp_path / "run"))) == (3, 3)


def test_resume_falls_back_from_a_damaged_checkpoint(shards_folder, tmp_path, capfd):
    out = tmp_path / "run"
    run_small(shards_folder, out)
    expected = history(out)
    newest = max((out / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:1000])
    run_small(shards_folder, out, resume=True)
    said = capfd.readouterr().err
    assert f"{newest} is damaged" in said
    assert "going on at epoch 2, step 0" in said
    assert history(out) == expected


def damage_checkpoints(out):
    for path in (out / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_checkpoints, "every checkpoint in it is damaged"),
        (lambda out: shutil.rmtree(out / "checkpoints"), "holds a run, but no checkpoint to go on from"),
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
    run_small(shards_folder, out, "epochs=1")
    damage(out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(TrainerError, match=message) as caught:
        run_small(shards_folder, out, resume=True)
    assert str(out) in str(caught.value) and "another --out" in str(caught.value)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_complete_run_needs_no_model_to_say_so(shards_folder, tmp_path):
    record = run_small(shards_folder, tmp_path / "run", "epochs=1")
    (tmp_path / "run" / "models" / "best_model.pth").unlink()
    assert run_small(shards_folder, tmp_path / "run", "epochs=1", resume=True) == record


def test_only_a_run_that_begins_starts_from_scratch(shards_folder, tmp_path, capfd):
    run_small(shards_folder, tmp_path / "run", "epochs=1", "model.weights=auto")
    assert "training starts from scratch" in capfd.readouterr().err
    run_small(shards_folder, tmp_path / "run", "model.weights=auto", resume=True)
    said = capfd.readouterr().err
    assert "going on at epoch 2" in said and "from scratch" not in said


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
