"""The task of latent diffusion: its draws, a run that goes on, what it keeps, and what is refused."""

import dataclasses
import json
import os
import signal
from functools import partial

import numpy as np
import pytest
import torch
from latents import CHANNELS, SIZE
from PIL import Image
from runs import ALONE, DIFFUSION, history, newest_state

from trainer.config.load import load_settings
from trainer.data.loader import ClipLoader
from trainer.engine.assemble import choose_run_cache
from trainer.errors import FormatError, Interrupted, SettingsError, TrainerError
from trainer.monitor.step_table import read_table
from trainer.saved_model import load_saved
from trainer.shards.shard_set import open_shards
from trainer.tasks import task_of
from trainer.tasks.diffusion.model import LatentDiffusion
from trainer.tasks.diffusion.saved import load_diffusion, model_folder
from trainer.tasks.diffusion.sheet import drawn_std, latents_of
from trainer.tasks.diffusion.task import Diffusion

CPU = torch.device("cpu")


def task_on(shards, *overrides):
    return task_of(load_settings(None, (*DIFFUSION, *overrides)), shards.heads, shards.members)


@pytest.fixture(scope="module")
def shards(latents):
    return open_shards(latents)


@pytest.fixture(scope="module")
def batch(shards):
    loader = ClipLoader(shards, "train", 16, members=["latent"])
    found = next(iter(loader.batches(0)))
    loader.close()
    return found


def inputs(task, batch, epoch=0):
    labels = torch.zeros(len(batch.numbers), dtype=torch.int64)
    return task.training_inputs(batch, labels, epoch, None, None)


def test_draws_follow_a_clip_through_any_batch(shards, batch):
    task = task_on(shards, "model.label_dropout=0.5")
    whole, first, second = (inputs(task, part) for part in (batch, batch.part(slice(5)), batch.part(slice(5, 16))))
    for one, parts in zip(whole, zip(first, second, strict=True), strict=True):
        assert torch.equal(one, torch.cat(parts))
    assert not torch.equal(whole[3], inputs(task, batch, epoch=1)[3])
    again = dataclasses.replace(batch, seeds=batch.seeds + np.array([0, 1]))  # the clips come a second time
    assert not torch.equal(whole[3], inputs(task, again)[3]) and not torch.equal(whole[2], inputs(task, again)[2])
    assert abs(float(whole[3].std()) - 1) < 0.1 and not torch.equal(whole[3], whole[4])


def test_a_share_of_the_labels_is_left_out(shards, batch):
    task = task_on(shards, "model.label_dropout=0.25")
    labels = torch.cat([inputs(task, batch, epoch)[1] for epoch in range(40)])
    assert set(labels.tolist()) == {0, 2}, "two classes, and none"
    assert (labels == 2).float().mean() == pytest.approx(0.25, abs=0.07)


def test_evaluation_draws_by_place_alone_and_covers_the_timesteps(shards, batch):
    task, labels = task_on(shards), torch.zeros(16, dtype=torch.int64)
    places = np.arange(16)
    one = task.evaluation_inputs(batch, labels, places)
    other = task.evaluation_inputs(dataclasses.replace(batch, numbers=batch.numbers[::-1]), labels, places)
    assert all(torch.equal(*pair) for pair in zip(one[2:], other[2:], strict=True))
    assert set(np.histogram(one[2], 4, (0, 100))[0].tolist()) <= {3, 4, 5}


def test_draws_from_wide_posteriors_are_standardised_too(shards, batch):
    latent = dataclasses.replace(shards.members["latent"], posterior_std=(3.0,) * CHANNELS)
    wide = dataclasses.replace(shards, members={**shards.members, "latent": latent})
    task, numbers = task_on(wide), shards.numbers("train")
    model = task.build_model(task.settings.model, 2, SIZE)
    task.fit(model, wide, numbers)
    means = latents_of(shards, numbers, model)
    drawn = means + 3 / model.std.numpy() * np.random.default_rng(0).standard_normal(means.shape)
    assert drawn.std((0, 2, 3)) == pytest.approx(1, abs=0.05) and means.std() < 0.7
    assert drawn_std(means, wide, model) == pytest.approx(1, abs=1e-3)
    assert task_on(wide, "model.posterior=mean").statistics()[1] == pytest.approx(np.float32(latent.std))


@pytest.mark.parametrize(("normalise", "posterior"), [("channel", "mean"), ("scalar", "mean"), ("none", "sample")])
def test_latents_are_standardised_by_train(shards, normalise, posterior, monkeypatch):
    task = task_on(shards, f"model.normalise={normalise}", f"model.posterior={posterior}")
    model = task.build_model(task.settings.model, 2, SIZE)
    task.fit(model, shards, shards.numbers("train"))
    loader = ClipLoader(shards, "train", 64, members=["latent"], shuffle=False)
    moments = next(iter(loader.batches(0))).clips.float()
    seen = {}
    model.unet.register_forward_pre_hook(lambda _, args: seen.update(noisy=args[0]))
    zeros = torch.zeros(len(moments), CHANNELS, *moments.shape[2:])
    model(
        moments,
        torch.zeros(len(moments), dtype=torch.int64),
        torch.zeros(len(moments), dtype=torch.int64),
        zeros,
        zeros,
    )
    found = (seen["noisy"] / model.signal[0].sqrt()).transpose(0, 1).flatten(1)
    if normalise == "channel":
        assert found.mean(1).abs().max() < 1e-3 and (found.std(1) - 1).abs().max() < 1e-2
    elif normalise == "scalar":
        assert abs(found.mean()) < 1e-3 and abs(found.std() - 1) < 1e-2 and found.std(1).max() > 1.5
    else:
        assert torch.allclose(found, moments[:, :CHANNELS].transpose(0, 1).flatten(1), atol=1e-3)


def test_the_loss_is_that_of_the_formulas(shards, batch):
    task = task_on(shards, "model.posterior=sample")
    model = task.build_model(task.settings.model, 2, SIZE)
    moments, labels, timesteps, noise, posterior = inputs(task, batch)
    found = model(moments, labels, timesteps, noise, posterior)
    mean, log_variance = moments.float().chunk(2, 1)
    latents = mean + (log_variance / 2).exp() * posterior
    signal = model.signal[timesteps][:, None, None, None]
    target = signal.sqrt() * noise - (1 - signal).sqrt() * latents
    said = model.unet(signal.sqrt() * latents + (1 - signal).sqrt() * noise, timesteps, class_labels=labels).sample
    expected = ((said - target) ** 2).mean((1, 2, 3)) * model.weights[timesteps]
    torch.testing.assert_close(found[:, 0], expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(found[:, 1], (timesteps // 25).float())


def test_a_run_leaves_its_models_samples_and_figures(finished):
    out, record = finished
    assert record["best_step"] in (4, 8) and record["settings"]["augment"]["flip"] == 0
    assert {path.name for path in (out / "models").iterdir() if path.is_dir()} == {"best", "last", "step-00000004"}
    rows = read_table(out)
    assert [row["step"] for row in rows] == ["4", "8"]
    assert all(float(row[f"loss_q{quarter}"]) > 0 for row in rows for quarter in (1, 2, 3))
    assert all(float(row[f"{split}_loss_probe"]) > 0 for row in rows for split in ("train", "val"))
    assert float(rows[1]["latent_std"]) == pytest.approx(1, abs=1e-3) and 0.5 < float(rows[1]["sample_std"]) < 2
    assert {"gradient_norm", "lr", "data_wait", "clips_per_second", "memory_gb", "sample_near"} < rows[1].keys()
    assert (
        float(history(out)[-1]["val_loss"]) == pytest.approx(record["validation"]["loss"]) or record["best_step"] == 4
    )
    with Image.open(out / "samples" / "step-00000008.jpg") as sheet:
        assert sheet.size == (5 * SIZE, 2 * SIZE)
    assert np.load(out / "samples" / "step-00000008.npz")["samples"].shape == (2, 4, CHANNELS, 4, 4)
    assert "loss on test, 8 clips: " in (out / "results" / "experiment_report.txt").read_text()


def test_a_run_goes_on_bit_for_bit(run_tiny, finished, tmp_path, monkeypatch):
    record = stopped_and_resumed(run_tiny, tmp_path / "run", monkeypatch, 6)  # in the second interval
    assert record["test"] == finished[1]["test"]
    check_same_run(tmp_path / "run", finished[0])
    rows, expected = read_table(tmp_path / "run"), read_table(finished[0])
    for name in ("step", "train_loss_probe", "val_loss_probe"):
        assert [row[name] for row in rows] == [row[name] for row in expected]
    one, other = (load_diffusion(model_folder(out, "4"), CPU) for out in (tmp_path / "run", finished[0]))
    assert one.about["weights_sha256"] == other.about["weights_sha256"]


@pytest.mark.slow
def test_a_run_goes_on_bit_for_bit_from_any_step(run_tiny, tmp_path, monkeypatch):
    own = ("steps=20", "accumulate=2")
    run_tiny(tmp_path / "whole", *own)
    for stop in range(1, 21):
        stopped_and_resumed(run_tiny, tmp_path / f"{stop}", monkeypatch, stop, *own)
        check_same_run(tmp_path / f"{stop}", tmp_path / "whole")


def stopped_and_resumed(run_tiny, out, monkeypatch, stop, *own):
    """The record of a run that was asked to end in a step, counted from 1, and was resumed."""
    forward, calls = LatentDiffusion.forward, []
    first_pass = (stop - 1) * (2 if "accumulate=2" in own else 1)  # of the step

    def stopping(self, *args):
        if self.training:
            calls.append(1)
            if len(calls) == first_pass + 1:
                os.kill(os.getpid(), signal.SIGTERM)
        return forward(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(LatentDiffusion, "forward", stopping)
        with pytest.raises(Interrupted, match=f"stopped by SIGTERM at step {stop};"):
            run_tiny(out, *own)
    return run_tiny(out, *own, resume=True)


def check_same_run(one, other):
    assert history(one) == history(other)
    for name in ("model", "ema", "optimizer"):
        assert_same(newest_state(one)[name], newest_state(other)[name])


def assert_same(one, other):
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_same(one[name], other[name])
    elif torch.is_tensor(one):
        assert torch.equal(one, other)
    elif isinstance(one, list):
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    else:
        assert one == other


def test_saved_models_are_read_with_all_that_sampling_needs(finished, latents):
    out = finished[0]
    saved = load_diffusion(model_folder(out, "last"), CPU)
    member = open_shards(latents).members["latent"]
    assert saved.shape == (CHANNELS, 4, 4) and saved.classes == ["a", "b"] and saved.about["step"] == 8
    assert torch.allclose(saved.latents(torch.ones(1, *saved.shape)), (saved.mean + saved.std)[None])
    assert saved.std.flatten().tolist() == pytest.approx(list(member.std))
    assert saved.about["latent"]["vae"]["sha256"] == member.vae["sha256"]
    averaged = newest_state(out)["ema"]["module"]
    assert all(torch.equal(value, averaged[f"unet.{name}"]) for name, value in saved.unet.state_dict().items())
    assert model_folder(out, "4").name == "step-00000004"


def test_models_that_are_not_there_or_are_damaged(finished, tmp_path):
    with pytest.raises(TrainerError, match="has no model of the checkpoint 5; it has best, last, 4"):
        model_folder(finished[0], "5")
    with pytest.raises(TrainerError, match="it has no diffusion model; pass the run's folder"):
        model_folder(tmp_path, "best")
    folder = tmp_path / "models" / "best"
    folder.mkdir(parents=True)
    for path in model_folder(finished[0], "best").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"other")
    with pytest.raises(TrainerError, match="is not the file that it was saved with"):
        load_diffusion(folder, CPU)
    for text, message in (
        (json.dumps({"settings": {}}), "is of a run of model.name=resnet_lstm, not of diffusion"),
        ("{", r"about\.json: cannot be read"),
        (json.dumps({"settings": {"model": {"name": "diffusion"}}}), r"about\.json: cannot be read"),
    ):
        (folder / "about.json").write_text(text)
        with pytest.raises(TrainerError, match=message):
            load_diffusion(folder, CPU)


def test_other_commands_say_what_to_use_instead(finished):
    with pytest.raises(TrainerError, match=r"predicts no labels; make pictures by it with python -m trainer\.generate"):
        load_saved(finished[0], CPU)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("augment.flip=0.3", "augment.flip is 0.3, but nothing is augmented with model.name=diffusion; leave it out"),
        ("loss.name=focal", "loss.name is focal, but model.name=diffusion has its own; leave it out"),
        ("calibrate=true", "calibrate is true, but model.name=diffusion learns no classes; leave it out"),
        ("metric=accuracy", "metric is accuracy, which does not go with model.name=diffusion; use auto, loss"),
        ("data.size=8", "data.size is 8, but latents have the size that they have; leave it out"),
        ("model.predict=noise", "model.predict is noise, but model.schedule=cosine ends in noise alone"),
        ("model.keep_steps=[6]", "model.keep_steps has 6, but validations come every 4 steps"),
        ("steps=none", "steps is none, but model.name=diffusion counts in steps, as its monitoring does; set steps"),
    ],
)
def test_settings_that_do_not_go_with_it(override, message):
    with pytest.raises(SettingsError) as caught:
        Diffusion(load_settings(None, (*DIFFUSION, override)), (), {})
    assert message in str(caught.value)


def test_shards_without_latents(pictures, run_tiny, tmp_path):
    with pytest.raises(
        FormatError, match=r"have no latents, .* make a folder that has them with python -m trainer\.encode"
    ):
        task_on(open_shards(pictures))


def test_notes_of_shards_are_left_to_who_chooses_the_splits(shards):
    task, noted = task_on(shards), dataclasses.replace(shards, notes=("a note",))
    assert task.check_data(task.settings, noted, {})[1] == []


def test_the_cache_of_the_clips_of_train_that_are_compared_counts(shards, monkeypatch):
    settings = task_on(shards).settings
    splits = {split: shards.numbers(split) for split in ("train", "val")}
    num_clips = len(splits["train"]) + 2 * len(splits["val"])
    for free, expected in ((2, "ram"), (1.99, "none")):
        memory = free * num_clips * shards.members["latent"].num_bytes
        monkeypatch.setattr("trainer.data.cache.free_memory_bytes", partial(int, memory))
        assert choose_run_cache(settings, shards, splits, ALONE)[0] == expected
