"""Runs of the task autoencoder: what is learned, and that what they keep is taken by --vae."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from latents import SIZE, build_pictures, make_pictures
from runs import CPU, history, run_small

from trainer.config.load import load_settings
from trainer.config.vae import VaeSpec
from trainer.data.loader import ClipLoader
from trainer.errors import SettingsError, TrainerError
from trainer.models.autoencoders.load import load_vae
from trainer.saved_model import load_saved
from trainer.shards.shard_set import open_shards
from trainer.tasks import task_of

pytest.importorskip("diffusers")
SMALL = (
    "model.name=autoencoder", "model.level_channels=[8, 16]", "steps=60", "checkpoint_every_steps=30", "ema=0.5",
    "optimizer.lr=1e-2", "scheduler.name=constant",
)  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    return build_pictures(make_pictures(root / "data"), root / "shards")


@pytest.fixture(scope="module")
def run(pictures):
    run_small(pictures, pictures.parent / "run", *SMALL)
    return pictures.parent / "run"


def test_it_learns_and_its_best_model_is_an_autoencoder_for_vae(run, pictures):
    rows = history(run)
    first, last = (float(row["val_psnr"]) for row in rows)
    assert last > first and float(rows[1]["val_loss"]) < 0.95 * float(rows[0]["val_loss"])
    vae = load_vae(VaeSpec(vae=str(run / "models" / "best")), CPU)
    assert vae.shape(SIZE) == (4, SIZE // 2, SIZE // 2) and vae.input_range == (-1, 1)
    assert open_shards(pictures).fingerprint in vae.record["trained_on"]
    ((clips, _),) = ClipLoader(pictures, "val", 100, shuffle=False)
    images = clips[:, 0].float() / 255
    lost = (vae.decode(vae.moments(vae.to_input(images))[0]) - images).square().mean()
    assert -10 * torch.log10(lost) == pytest.approx(last, abs=0.5)  # there, pixels beyond the range are cut off


def test_both_models_are_kept_with_their_step(run):
    for name, step in (("last", 60), ("best", 60)):
        about = json.loads((run / "models" / name / "about.json").read_text())
        assert about["step"] == step and about["settings"]["model"]["level_channels"] == [8, 16]


def test_commands_that_predict_say_what_to_do_instead(run):
    with pytest.raises(TrainerError, match=r"holds an autoencoder.* --vae of trainer\.encode"):
        load_saved(run, CPU)


def make_task(pictures, *overrides):
    shards = open_shards(pictures)
    return task_of(load_settings(None, (*SMALL, *overrides)), shards.heads, shards.members)


def test_the_posterior_is_drawn_in_training_by_clip_and_epoch_and_is_its_mean_in_evaluation(pictures):
    task = make_task(pictures)
    batch = next(iter(ClipLoader(pictures, "train", 6, shuffle=False).batches(0)))
    labels = torch.zeros(6, dtype=torch.int64)
    images, noise = task.training_inputs(batch, labels, 3, None, None)
    assert (images.min() >= -1, images.max() <= 1, images.min() < 0) == (True, True, True)
    part = dataclasses.replace(batch, members={"frames": batch.clips[2:4]}, seeds=batch.seeds[2:4])
    assert torch.equal(task.training_inputs(part, labels, 3, None, None)[1], noise[2:4])
    assert not torch.equal(task.training_inputs(batch, labels, 4, None, None)[1], noise)
    assert noise.std() == pytest.approx(1, abs=0.1) and noise.shape == (6, 1, 4, 8, 8)
    assert not task.evaluation_inputs(batch, labels, np.arange(6))[1].any()


def test_the_loss_is_the_absolute_error_and_a_share_of_the_divergence(pictures):
    task = make_task(pictures, "model.kl_weight=0.01")
    torch.manual_seed(0)
    model = task.build_model(task.settings.model, 2, SIZE).eval()
    batch = next(iter(ClipLoader(pictures, "train", 3, shuffle=False).batches(0)))
    images, noise = task.evaluation_inputs(batch, torch.zeros(3), np.arange(3))
    with torch.no_grad():
        loss, mse, divergence = model(images, noise).unbind(1)
        posterior = model.vae.encode(images[:, 0]).latent_dist
        decoded = model.vae.decode(posterior.mean).sample
    assert torch.allclose(divergence, posterior.kl())
    assert torch.allclose(loss, (decoded - images[:, 0]).abs().mean((1, 2, 3)) + 0.01 * posterior.kl())
    assert torch.allclose(mse, (decoded - images[:, 0]).square().mean((1, 2, 3)) / 4)


def test_auto_is_the_small_one_on_a_cpu_and_the_large_one_on_a_gpu(pictures):
    task = make_task(pictures, "model.level_channels=auto")
    chosen = {kind: task.resolve(task.settings, torch.device(kind))[0].model.level_channels for kind in ("cpu", "cuda")}
    assert chosen == {"cpu": [8, 16, 32], "cuda": [32, 64, 128, 128]}


def test_a_size_that_cannot_be_halved_so_often_is_refused(pictures):
    task = make_task(pictures, "model.level_channels=[8, 8, 8]")
    with pytest.raises(
        SettingsError, match=r"model.level_channels has 3 levels, but pictures of 18 px cannot be halved 2"
    ):
        task.build_model(task.settings.model, 2, 18)
    with pytest.raises(SettingsError, match=r"model.level_channels is \[\]"):
        make_task(pictures, "model.level_channels=[]")
