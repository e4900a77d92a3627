"""The watch over a run: what it shows, its exit codes, and that it reads files that are being written."""

import csv
import os
import time

import pytest
import yaml
from click.testing import CliRunner
from diffusion_figures import CLASSES, STEPS, changed, sound_run
from runs import DIFFUSION, run_small

from trainer.config.run_folder import hold_folder
from trainer.errors import TrainerError
from trainer.monitor.step_table import read_table
from trainer.tools.synthetic.watch import has_died, read_run, to_rows
from trainer.watch import main


def watch(run, *options):
    return CliRunner().invoke(main, ["--run", str(run), *options])


def with_rows(run, rows):
    """A run whose folder has these figures."""
    values = yaml.safe_load((run / "config.yaml").read_text()) | {"steps": STEPS, "checkpoint_every_steps": 500}
    (run / "config.yaml").write_text(yaml.safe_dump(values))
    about = run / "models" / "last" / "about.json"
    about.write_text(about.read_text().replace('"a",', "".join(f'"{number}",' for number in range(CLASSES - 1))))
    with (run / "results" / "monitor.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        table.writeheader()
        table.writerows(rows)
    return run


def test_a_run_of_the_trainer_is_read(run):
    done = watch(run)
    assert done.output.startswith(f"{run}: step 8 of 8 (100%), loss ") and "left" not in done.output
    watched = read_run(run)
    assert (watched.num_steps, watched.num_classes, watched.batch_size) == (8, 2, 8)
    for name in ("loss", "train_loss_fixed", "val_loss", "latent_std", "sample_near", "clips_per_second"):
        assert any(name in row for row in watched.rows), name


def test_a_sound_run_ends_with_0(own_run):
    rows = [row | {"clips_per_second": 40.0} for row in sound_run(5_000)]
    (own_run / "results" / "experiment_results.json").unlink()
    done = watch(with_rows(own_run, rows), "--once")
    assert done.exit_code == 0 and "finding" not in done.output
    assert ": step 5000 of 20000 (25%), 50 min left, loss 0." in done.output


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("skipped_steps", 15),
        ("latent_std", 0.179),
        ("loss", 0.5),
        ("val_loss", lambda step: 0.1 + step / 1e5),
        ("sample_agreement", 0.2),
        ("sample_near", 0.06),
    ],
)
def test_each_finding_ends_with_1(own_run, name, value):
    done = watch(with_rows(own_run, changed(name, value, 0)), "--once")
    assert done.exit_code == 1
    assert done.output.count("finding: ") == 1


def test_a_run_that_skipped_steps_have_ended(pca, tmp_path):
    whole = ("model.keep_steps=[]", "steps=40", "checkpoint_every_steps=40", "optimizer.lr=1e30")
    with pytest.raises(TrainerError, match="were not finite"):
        run_small(pca.weights.parent / "latents", tmp_path / "run", *DIFFUSION, *whole)
    done = watch(tmp_path / "run", "--once")
    assert done.exit_code == 1 and "finding: the gradients were not finite in" in done.output
    rows = read_table(tmp_path / "run")
    assert [row["step"] for row in rows] == ["10", "20"]
    assert rows[-1]["skipped_steps"] == "10" and not rows[-1]["loss"]


def test_a_run_that_ended_before_its_last_step_is_over(own_run):
    done = watch(with_rows(own_run, sound_run(5_000)))
    assert done.exit_code == 0 and ": step 5000 of 20000 (25%), loss 0." in done.output


def test_the_last_validation_is_waited_for(own_run, monkeypatch):
    """The row of the last step is there before its validation, and that before the report."""
    rows, record = sound_run(), own_run / "results" / "experiment_results.json"
    content = record.read_bytes()
    record.unlink()
    last = {name: rows[-1].pop(name) for name in ("train_loss_fixed", "val_loss", "sample_agreement", "sample_near")}
    with_rows(own_run, rows)

    def validate(seconds):
        rows[-1] |= last | {"sample_near": 0.2}
        with_rows(own_run, rows)
        record.write_bytes(content)

    monkeypatch.setattr(time, "sleep", validate)
    done = watch(own_run)
    assert done.exit_code == 1 and done.output.count(": step 20000 of 20000 (100%), loss 0.") == 2
    assert done.output.count("finding: 20.0% of the samples at step 20000") == 1


def test_what_a_run_without_sheets_does_not_measure_is_said(own_run):
    assert "not measured" not in watch(own_run, "--once").output
    values = yaml.safe_load((own_run / "config.yaml").read_text())
    values["model"]["sample_every_steps"] = 0
    (own_run / "config.yaml").write_text(yaml.safe_dump(values))
    said = "not measured, since model.sample_every_steps is 0: latent_std, sample_agreement, sample_near\n"
    assert said in watch(own_run, "--once").output


def test_a_run_that_died_is_not_watched_for_ever(own_run, monkeypatch):
    rows = [row | {"clips_per_second": 40.0} for row in sound_run(5_000)]
    (own_run / "results" / "experiment_results.json").unlink()
    with_rows(own_run, rows)
    assert not has_died(own_run), "its files are new"
    for path in own_run.rglob("*"):
        os.utime(path, (0, 0))
    with hold_folder(own_run, resume=True):
        assert not has_died(own_run), "a long validation"
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it watches on"))
    done = watch(own_run)
    assert done.exit_code == 1 and "finding" not in done.output
    assert "no process holds this run, and it has written nothing for 15 min: it has died or was" in done.output


def test_a_run_that_has_just_begun(own_run):
    (own_run / "results" / "monitor.csv").unlink()
    done = watch(own_run, "--once")
    assert done.exit_code == 0 and ": step 0 of 8 (0%)" in done.output


@pytest.mark.parametrize(
    "config",
    [
        "epochs: 3\n",
        "model:\n",
        "model: diffusion\n",
        "model: {name: diffusion}\nsteps: 8\n",
        "model: {name: diffusion}\nsteps: 8\nbatch_size: auto\n",
    ],
)
def test_other_folders_are_refused(own_run, tmp_path, config):
    for folder in (tmp_path, own_run):
        (own_run / "config.yaml").write_text(config)
        done = watch(folder, "--once")
        assert done.exit_code == 1 and "holds no run with model.name=diffusion" in done.output


def test_half_a_row_is_read_as_far_as_it_goes():
    table = [{"step": "100", "loss": "0.5", "val_loss": ""}, {"step": "200", "loss": "na", None: ["1"]}, {"step": ""}]
    assert to_rows(table) == [{"step": 100, "loss": 0.5}, {"step": 200}]
