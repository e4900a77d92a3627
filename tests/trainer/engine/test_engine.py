"""One step's arithmetic: padding weighs nothing, parts change nothing, evaluation sees every clip once."""

import dataclasses

import numpy as np
import pytest
import torch
from runs import SMALL, Hungry, MeanColours, Partly
from two_ranks import in_two_processes

from trainer.config.load import load_settings
from trainer.data.batches import Batch
from trainer.data.loader import ClipLoader
from trainer.devices.distributed import Group
from trainer.engine.assemble import make_engine
from trainer.engine.engine import seed_step
from trainer.engine.probe import Probe
from trainer.errors import TrainerError
from trainer.shards.shard_set import open_shards

CPU = torch.device("cpu")


def engine_of(shards, *overrides):
    torch.manual_seed(0)
    settings = load_settings(None, (*SMALL, "model.name=runs:MeanColours", *overrides))
    model = MeanColours(2)
    engine = make_engine(settings, shards, shards.numbers("train"), model, Group(0, 1, CPU))
    engine.begin_epoch(0)
    return engine, model


def flat(sums):
    """The loss first, the clips last."""
    return torch.stack(list(sums.values()))


def step_of(shards, batch, *overrides):
    """The model's weights and the sums after one step on `batch`."""
    engine, model = engine_of(shards, *overrides)
    sums = engine.new_sums()
    engine.train_step(batch, 0, 0, sums)
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]), flat(sums)


@pytest.fixture
def batch(shards_folder):
    return next(ClipLoader(shards_folder, batch_size=6).batches(0))


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_padding_weighs_nothing(shards_folder, batch, loss):
    shards = open_shards(shards_folder)
    padded = Batch(
        {"frames": torch.cat([batch.clips, batch.clips[:2]])},
        np.concatenate([batch.numbers, batch.numbers[:2]]), np.array([True] * 6 + [False] * 2),
        np.concatenate([batch.seeds, batch.seeds[:2]]),
    )  # fmt: skip
    steps = (step_of(shards, each, f"loss.name={loss}") for each in (padded, batch))
    (weights, sums), (expected, expected_sums) = steps
    assert torch.allclose(weights, expected, atol=1e-6)
    assert torch.allclose(sums, expected_sums)
    assert sums[-1] == 6, "clips"


@pytest.mark.parametrize("accumulate", [2, 3, 50])
def test_parts_give_the_same_step(shards_folder, batch, accumulate):
    shards = open_shards(shards_folder)
    (weights, sums), (expected, expected_sums) = (
        step_of(shards, batch, f"accumulate={accumulate}"),
        step_of(shards, batch),
    )
    assert torch.allclose(weights, expected, atol=1e-6)
    assert torch.allclose(sums, expected_sums)


def test_parts_of_unlike_sizes_give_the_same_gradient(shards_folder):
    """Which AdamW's first step does not show: it is the same for a gradient of any size."""
    shards = open_shards(shards_folder)
    batch = next(ClipLoader(shards, batch_size=8).batches(0))
    mask = np.array([True, True, False, True, True, True, True, False])  # in three parts 2, 3 and 1 clips count
    gradients = []
    for accumulate in (1, 3):
        engine, model = engine_of(shards, f"accumulate={accumulate}")
        engine.add_gradients(dataclasses.replace(batch, mask=mask), 0)
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    assert gradients[0].abs().max() > 1e-3
    assert torch.allclose(gradients[1], gradients[0], atol=1e-6)


def test_a_gradient_is_clipped(shards_folder, batch):
    engine, model = engine_of(open_shards(shards_folder), "optimizer.clip_norm=1e-3")
    norms = []
    engine.optimizer.register_step_pre_hook(
        lambda *_: norms.append(torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item())
    )
    engine.train_step(batch, 0, 0, engine.new_sums())
    assert norms == [pytest.approx(1e-3, rel=1e-3)]


def test_evaluation_sees_every_clip_once_in_plan_order(shards_folder):
    shards = open_shards(shards_folder)
    engine, _ = engine_of(shards)
    predictions = [engine.evaluate(ClipLoader(shards, "val", size)) for size in (3, 8)]
    for each in predictions:
        assert np.array_equal(each.numbers, shards.numbers("val"))
        assert np.array_equal(each.labels, shards.labels[each.numbers])
    assert np.allclose(predictions[0].outputs, predictions[1].outputs, atol=1e-6)
    assert predictions[0].loss == pytest.approx(float(np.log(2)))


def test_damaged_clips_are_left_out_of_the_figures(shards_folder):
    shards = open_shards(shards_folder)
    samples = np.array(shards.samples)
    number = shards.numbers("val")[3]
    samples["frames_crc"][number] ^= 1
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


@pytest.mark.parametrize("amp", ["float32", "bfloat16", "float16"])
def test_the_model_runs_in_the_chosen_precision(shards_folder, batch, amp):
    shards, seen = open_shards(shards_folder), []
    engine, model = engine_of(shards, f"amp={amp}")
    model.head.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    engine.train_step(batch, 0, 0, engine.new_sums())
    engine.evaluate(ClipLoader(shards, "val", 8))
    assert seen == [getattr(torch, amp)] * 2, "in training and in evaluation"
    assert engine.scaler.is_enabled() == (amp == "float16")


def test_the_learning_rate_moves_with_every_step(shards_folder, batch):
    own = ("scheduler.name=cosine", "scheduler.warmup_epochs=1", "epochs=2")
    engine, _ = engine_of(open_shards(shards_folder), *own)
    rates = []
    for step in range(6):  # two epochs of three steps
        rates.append(engine.optimizer.param_groups[0]["lr"] / engine.settings.optimizer.lr)
        engine.train_step(batch, step // 3, step % 3, engine.new_sums())
    assert rates == pytest.approx([1 / 3, 2 / 3, 1, 1, 0.75, 0.25])


def hungry_step(shards, batch, most, *overrides, error=torch.OutOfMemoryError):
    """The engine and all its model's values after one step of a model that takes `most` clips at once."""
    torch.manual_seed(0)
    settings, model = load_settings(None, (*SMALL, *overrides)), Hungry(2, most, error)
    engine = make_engine(settings, shards, shards.numbers("train"), model, Group(0, 1, CPU))
    engine.begin_epoch(0)
    sums = engine.new_sums()
    engine.train_step(batch, 0, 0, sums)
    return engine, [*model.state_dict().values(), flat(sums)]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])  # torch's, and cuBLAS's
def test_out_of_memory_takes_the_same_step_in_more_parts(shards_folder, batch, capfd, error):
    shards = open_shards(shards_folder)
    engine, values = hungry_step(shards, batch, 2, error=error)
    assert engine.accumulate == 4
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(said) == 2
    assert said[1].startswith("warning: epoch 1, step 1: out of memory;") and "accumulate=4" in said[1]
    _, expected = hungry_step(shards, batch, 2, "accumulate=4")
    assert capfd.readouterr().err == ""
    assert all(torch.equal(a, b) for a, b in zip(values, expected, strict=True)), "statistics and draws included"


def test_evaluation_that_memory_does_not_hold_goes_in_smaller_parts(shards_folder, batch, monkeypatch, caplog):
    shards = open_shards(shards_folder)
    engine, _ = hungry_step(shards, batch, 8)
    whole = engine.evaluate(ClipLoader(shards, "val", batch_size=8))
    monkeypatch.setattr(Hungry, "most_scored", 2)
    parts = engine.evaluate(ClipLoader(shards, "val", batch_size=8))
    assert np.allclose(parts.outputs, whole.outputs, atol=1e-6) and parts.loss == pytest.approx(whole.loss)
    assert [record.getMessage() for record in caplog.records][-1] == "out of memory; again, in 4 parts"
    monkeypatch.setattr(Hungry, "most_scored", 0)
    with pytest.raises(torch.OutOfMemoryError):
        engine.evaluate(ClipLoader(shards, "val", batch_size=8))


def test_out_of_memory_for_good(shards_folder, batch):
    with pytest.raises(TrainerError, match=r"out of memory with a single clip at a time; use a smaller data\.size"):
        hungry_step(open_shards(shards_folder), batch, 0)


def test_with_several_processes_out_of_memory_ends_the_run_with_the_setting_to_change(shards_folder, batch):
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        model, shards = Hungry(2), open_shards(shards_folder)
        settings = load_settings(None, (*SMALL, "accumulate=2"))
        engine = make_engine(settings, shards, shards.numbers("train"), model, Group(0, 2, CPU))
        engine.begin_epoch(0)
        with pytest.raises(TrainerError, match=r"rank 0 is out of memory; start again with --set accumulate=4"):
            engine.train_step(batch, 0, 0, engine.new_sums())
    finally:
        torch.distributed.destroy_process_group()


def run_rank(rank, shards_folder, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(train_and_evaluate(shards_folder, Group(rank, 2, CPU)), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def train_and_evaluate(shards_folder, group):
    """A probe, two epochs, and an evaluation, of a model whose first weights the ranks do not agree on."""
    torch.manual_seed(group.rank)
    model, shards = Partly(2), open_shards(shards_folder)
    overrides = ("model.name=runs:Partly", "accumulate=2", "ema=0.5", "optimizer.sam_rho=0.1")
    settings = load_settings(None, (*SMALL, *overrides))
    engine = make_engine(settings, shards, shards.numbers("train"), model, group)
    train, val = (ClipLoader(shards, split, 8, rank=group.rank, world=group.world) for split in ("train", "val"))
    sums, probed = engine.new_sums(), Probe(engine, train, val).losses()
    for epoch in range(2):
        engine.train_epoch(train, epoch, 0, sums, lambda step: False)
    average = engine.ema.module
    statistics = average.norm.running_mean.clone()
    logits = torch.from_numpy(engine.evaluate(val).outputs)
    state = {"model": model.state_dict(), "average": average.state_dict(), "statistics": statistics}
    return {**state, "sums": flat(sums), "logits": logits, "probed": probed}


@pytest.fixture(scope="module")
def two_ranks(shards_folder, tmp_path_factory):
    """What each of two processes has come to."""
    folder = tmp_path_factory.mktemp("ranks")
    in_two_processes(run_rank, shards_folder, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_two_processes_train_as_one_does_though_a_custom_model_leaves_parameters_out(shards_folder, two_ranks):
    one, (first, second) = train_and_evaluate(shards_folder, Group(0, 1, CPU)), two_ranks
    for part in ("model", "average"):
        for name, weights in one[part].items():
            if not name.startswith("norm."):
                assert torch.equal(first[part][name], second[part][name]), "though they began with others"
                assert torch.allclose(first[part][name], weights, atol=1e-5), name
    assert torch.allclose(first["sums"] + second["sums"], one["sums"], rtol=1e-4)
    assert first["sums"][-1] + second["sums"][-1] == 40
    assert first["probed"] == second["probed"] == pytest.approx(one["probed"], abs=1e-5), "all clips of the probe"
    torch.manual_seed(0)
    assert torch.equal(first["model"]["unused.weight"], Partly(2).unused.weight), "no weight decay either, as in one"


def test_all_ranks_evaluate_by_the_statistics_that_are_saved(shards_folder, two_ranks):
    first, second = two_ranks
    assert not torch.equal(first["statistics"], second["statistics"]), "each has seen clips of its own"
    assert torch.equal(first["average"]["norm.running_mean"], first["statistics"])
    shards, model = open_shards(shards_folder), Partly(2)
    model.load_state_dict(first["average"])
    engine = make_engine(load_settings(None, SMALL), shards, shards.numbers("train"), model, Group(0, 1, CPU))
    expected = torch.from_numpy(engine.evaluate(ClipLoader(shards, "val", 8)).outputs)
    for rank in two_ranks:
        assert torch.allclose(rank["logits"], expected, atol=1e-5)
