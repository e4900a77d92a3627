"""The sheet of samples of a run: which real clips it compares them with, and how."""

import pytest
from latents import CHANNELS, SIZE
from runs import DIFFUSION, newest_state

from trainer.config.load import load_settings
from trainer.data.loader import ClipLoader
from trainer.shards.shard_set import open_shards
from trainer.tasks import task_of
from trainer.tasks.base import Validated


def test_samples_are_compared_with_the_clips_of_the_run(latents, tmp_path):
    shards = open_shards(latents)
    task = task_of(load_settings(None, DIFFUSION), shards.heads, shards.members)
    model = task.build_model(task.settings.model, 2, SIZE).eval()
    train = shards.numbers("train")  # some of which a run may hold out, or leave
    numbers = {"train": train[::3], "val": train[1::3]}
    task.fit(model, shards, numbers["train"])
    (tmp_path / "samples").mkdir()
    figures = task.after_validation(tmp_path, Validated(model, shards, numbers, (0, 8), False))
    loader = ClipLoader(shards, "train", 64, members=["latent"], shuffle=False, numbers=numbers["train"])
    means = next(iter(loader.batches(0))).clips.float()[:, :CHANNELS]
    assert figures["latent_std"] == pytest.approx(float(((means - model.mean) / model.std).std(correction=0)), 1e-4)
    assert {"sample_near", "real_agreement"} < figures.keys()


def test_a_run_that_is_killed_while_it_draws_samples_goes_on_with_that_validation(run_tiny, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("trainer.tasks.diffusion.task.sample_sheet", killed)
    with pytest.raises(KeyboardInterrupt):
        run_tiny(tmp_path / "run", "model.sample_every_steps=4")
    progress = newest_state(tmp_path / "run")["progress"]
    assert (progress["epoch"], progress["step"]) == (0, 4)
