"""Pseudo-fakes in training: which real clips become one, and that they are learned and counted as fakes."""

import dataclasses

import numpy as np
import pytest
import torch
from runs import SMALL, MeanColours

from shardify.format.records import Head
from trainer.config.load import load_settings
from trainer.data.loader import ClipLoader
from trainer.devices.distributed import Group
from trainer.engine.assemble import make_engine
from trainer.errors import SettingsError
from trainer.shards.shard_set import open_shards
from trainer.transforms.augment import DRAWS, draw


@pytest.fixture
def batch(shards_folder):
    return next(ClipLoader(shards_folder, batch_size=6).batches(0))


def engine_of(shards, *overrides):
    settings = load_settings(None, (*SMALL, "model.name=runs:MeanColours", *overrides))
    model = MeanColours(2)
    return make_engine(settings, shards, shards.numbers("train"), model, Group(0, 1, torch.device("cpu"))), model


def deepfakes(shards):
    return dataclasses.replace(shards, heads=[Head("class", ["real", "fake"])])


def test_pseudo_fakes_are_learned_and_counted_as_fakes(shards_folder, batch):
    shards = deepfakes(open_shards(shards_folder))
    share = 0.3
    engine, model = engine_of(shards, f"augment.self_blend={share}")
    engine.begin_epoch(0)
    expected = np.where(draw(0, 0, batch.seeds)[:, DRAWS.index("self_blend")] < share, 1, shards.labels[batch.numbers])
    assert (expected != shards.labels[batch.numbers]).any() and (expected == 0).any()
    learned = []
    engine.loss = lambda outputs, labels: learned.append(labels) or outputs.sum(1)
    with torch.no_grad():
        next(model.parameters()).zero_()
        *_, bias = model.parameters()
        bias.copy_(torch.tensor([0.0, 1.0]))  # all are said to be fake
    added = engine.add_gradients(batch, 0)
    assert learned[0].tolist() == expected.tolist()
    assert float(added["correct"]) == (expected == 1).sum()


def test_pseudo_fakes_need_real_clips_and_fakes(shards_folder):
    with pytest.raises(SettingsError, match=r"augment.self_blend needs two classes.*have a, b"):
        engine_of(open_shards(shards_folder), "augment.self_blend=0.5")
    with pytest.raises(SettingsError, match=r"augment.self_blend makes fakes of real clips, so it goes only with"):
        engine_of(deepfakes(open_shards(shards_folder)), "augment.self_blend=0.5", "loss.name=mse")
