"""The probe of losses in training: figures of the weights of the moment, and no trace in what is trained."""

import pytest
import torch
from runs import ALONE, SMALL, Stopping

from trainer.config.load import load_settings
from trainer.data.loader import ClipLoader
from trainer.engine import probe
from trainer.engine.assemble import make_engine
from trainer.engine.probe import Probe, some_of
from trainer.shards.shard_set import open_shards


def engine_of(shards, model):
    settings = load_settings(None, (*SMALL, "model.name=runs:Stopping"))
    return make_engine(settings, shards, shards.numbers("train"), model, ALONE)


def test_losses_are_those_of_an_evaluation_and_training_does_not_notice(shards_folder):
    shards = open_shards(shards_folder)
    train, val = (ClipLoader(shards, split, 6, shuffle=False) for split in ("train", "val"))
    model = Stopping(2)  # with batch norms and dropout
    engine = engine_of(shards, model)
    engine.begin_epoch(0)
    model.backbone.eval()  # as what is frozen
    probed, modes = Probe(engine, train, val), [module.training for module in model.modules()]
    state, drawn = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()

    first = probed.losses()
    assert probed.losses() == first and first.keys() == {"train_loss_probe", "val_loss_probe"}
    assert [module.training for module in model.modules()] == modes and len(set(modes)) == 2
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)

    with torch.no_grad():
        model.head[1].bias[0] += 1  # of one class: what all have in common changes no loss
    assert probed.losses() != first
    assert probed.losses()["val_loss_probe"] == pytest.approx(engine.evaluate(val).loss), "all of val, which is small"


def test_a_damaged_clip_is_skipped_however_few_clips_there_are(own_shards):
    shards = open_shards(own_shards)
    first = int(shards.numbers("train")[0])
    with open(shards.shard(first), "r+b") as file:
        file.seek(int(shards.samples["frames_offset"][first]))
        file.write(b"??")
    options = {"batch_size": 6, "on_error": "skip", "max_errors": 0.05}  # less than one of as many clips as val has
    train, val = (ClipLoader(shards, split, shuffle=False, **options) for split in ("train", "val"))
    engine = engine_of(shards, Stopping(2))
    assert Probe(engine, train, val).losses()["train_loss_probe"] > 0
    compared = some_of(train, len(val.numbers), val.options)  # as each validation has it
    assert len(engine.evaluate(compared).numbers) == len(val.numbers) - 1


def test_of_large_clips_there_are_fewer(shards_folder, monkeypatch):
    shards = open_shards(shards_folder)
    train, val = (ClipLoader(shards, split, 6, shuffle=False) for split in ("train", "val"))
    engine = engine_of(shards, Stopping(2))
    monkeypatch.setattr(probe, "MOST_BYTES", 3 * shards.first_member.num_bytes)
    found = Probe(engine, train, val).losses()
    for loader in (train, val):
        expected = engine.evaluate(some_of(loader, 3, val.options)).loss
        assert found[f"{loader.split}_loss_probe"] == pytest.approx(expected)
