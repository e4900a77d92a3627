"""The probe of losses in training: figures of the weights of the moment, and no trace in what is trained."""

import pytest
import torch
from runs import ALONE, SMALL, Stopping

from trainer.config.load import load_settings
from trainer.data.loader import ClipLoader
from trainer.engine.assemble import make_engine
from trainer.engine.probe import Probe
from trainer.shards.shard_set import open_shards


def test_losses_are_those_of_an_evaluation_and_training_does_not_notice(shards_folder):
    shards = open_shards(shards_folder)
    train, val = (ClipLoader(shards, split, 6, shuffle=False) for split in ("train", "val"))
    model = Stopping(2)  # with batch norms and dropout
    settings = load_settings(None, (*SMALL, "model.name=runs:Stopping"))
    engine = make_engine(settings, shards, train.numbers, model, ALONE)
    engine.begin_epoch(0)
    model.backbone.eval()  # as what is frozen
    probe, modes = Probe(engine, train, val), [module.training for module in model.modules()]
    state, drawn = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()

    first = probe.losses()
    assert probe.losses() == first and first.keys() == {"train_loss_probe", "val_loss_probe"}
    assert [module.training for module in model.modules()] == modes and len(set(modes)) == 2
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)

    with torch.no_grad():
        model.head[1].bias += 1
    assert probe.losses() != first
    assert probe.losses()["val_loss_probe"] == pytest.approx(engine.evaluate(val).loss), "all of val, which is small"
