"""One step's arithmetic: padding weighs nothing, parts change nothing, evaluation sees every clip once."""

import dataclasses

import numpy as np
import pytest
import torch
from runs import SMALL, MeanColours

from trainer.distributed import Group
from trainer.engine import choose_dtype, seed_step
from trainer.loader import Batch, ClipLoader
from trainer.settings import load_settings
from trainer.shards import open_shards
from trainer.train import make_engine

CPU = torch.device("cpu")


def engine_of(shards, *overrides):
    torch.manual_seed(0)
    settings = load_settings(None, (*SMALL, "model.name=runs:MeanColours", *overrides))
    model = MeanColours(2)
    return make_engine(settings, shards, ClipLoader(shards), model, Group(0, 1, CPU)), model


def step_of(shards, batch, *overrides):
    """The model's weights and the sums after one step on `batch`."""
    engine, model = engine_of(shards, *overrides)
    sums = torch.zeros(3, dtype=torch.float64)
    engine.train_step(batch, 0, sums)
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]), sums


@pytest.fixture
def batch(shards_folder):
    return next(ClipLoader(shards_folder, batch_size=6).batches(0))


def test_padding_weighs_nothing(shards_folder, batch):
    shards = open_shards(shards_folder)
    padded = Batch(
        torch.cat([batch.clips, batch.clips[:2]]), torch.cat([batch.labels, batch.labels[:2]]),
        np.concatenate([batch.numbers, batch.numbers[:2]]), np.array([True] * 6 + [False] * 2),
    )  # fmt: skip
    (weights, sums), (expected, expected_sums) = step_of(shards, padded), step_of(shards, batch)
    assert torch.allclose(weights, expected, atol=1e-6)
    assert torch.allclose(sums, expected_sums)
    assert sums[2] == 6


@pytest.mark.parametrize("accumulate", [2, 3, 50])
def test_parts_give_the_same_step(shards_folder, batch, accumulate):
    shards = open_shards(shards_folder)
    (weights, sums), (expected, expected_sums) = (
        step_of(shards, batch, f"accumulate={accumulate}"),
        step_of(shards, batch),
    )
    assert torch.allclose(weights, expected, atol=1e-6)
    assert torch.allclose(sums, expected_sums)


def test_a_gradient_is_clipped(shards_folder, batch):
    engine, model = engine_of(open_shards(shards_folder), "optimizer.clip_norm=1e-3")
    norms = []
    engine.optimizer.register_step_pre_hook(
        lambda *_: norms.append(torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item())
    )
    engine.train_step(batch, 0, torch.zeros(3, dtype=torch.float64))
    assert norms == [pytest.approx(1e-3, rel=1e-3)]


def test_evaluation_sees_every_clip_once_in_plan_order(shards_folder):
    shards = open_shards(shards_folder)
    engine, _ = engine_of(shards)
    predictions = [engine.evaluate(ClipLoader(shards, "val", size)) for size in (3, 8)]
    for each in predictions:
        assert np.array_equal(each.numbers, shards.numbers("val"))
        assert np.array_equal(each.labels, shards.samples["label"][each.numbers])
    assert np.allclose(predictions[0].logits, predictions[1].logits, atol=1e-6)
    assert predictions[0].loss == pytest.approx(float(np.log(2)))


def test_damaged_clips_are_left_out_of_the_figures(shards_folder):
    shards = open_shards(shards_folder)
    samples = np.array(shards.samples)
    number = shards.numbers("val")[3]
    samples["crc"][number] ^= 1
    damaged = dataclasses.replace(shards, samples=samples)
    engine, _ = engine_of(shards)
    found = engine.evaluate(ClipLoader(damaged, "val", 3, on_error="skip", max_errors=0.5))
    assert np.array_equal(found.numbers, np.delete(shards.numbers("val"), 3))


def test_half_precision_steps(shards_folder, batch):
    shards = open_shards(shards_folder)
    exact, _ = step_of(shards, batch)
    half, sums = step_of(shards, batch, "amp=bfloat16")
    assert torch.allclose(half, exact, atol=1e-3)
    assert sums.isfinite().all()


def test_dropout_draws_depend_on_the_position_alone():
    draws = []
    for position in [(0, 0, 0, 0), (0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]:
        seed_step(*position)
        draws.append(torch.rand(1).item())
    assert draws[0] == draws[1]
    assert len(set(draws)) == 5


def test_precision_on_a_cpu():
    assert choose_dtype("auto", CPU) == torch.float32
    assert choose_dtype("float16", CPU) == torch.float16
