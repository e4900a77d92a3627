"""Steps whose gradients are not finite change nothing and are counted; too many in a row end the run."""

import copy

import pytest
import torch
from runs import SMALL, Stopping, run_small

from trainer.config.load import load_settings
from trainer.data.loader import ClipLoader
from trainer.devices.distributed import Group
from trainer.engine import nonfinite
from trainer.engine.assemble import make_engine
from trainer.engine.checkpoint import load_newest
from trainer.errors import TrainerError
from trainer.shards.shard_set import open_shards

CPU = torch.device("cpu")


def state_of(engine):
    """Weights, statistics and the optimizer's moments and counts, in one list."""
    moments = [value for state in engine.optimizer.state.values() for value in state.values()]
    return copy.deepcopy([*engine.model.state_dict().values(), *moments])


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("amp", ["float32", "bfloat16", "float16"])
def test_a_step_that_is_not_finite_changes_nothing(shards_folder, amp):
    shards, model = open_shards(shards_folder), Stopping(2)
    settings = load_settings(None, (*SMALL, f"amp={amp}"))
    engine = make_engine(settings, shards, shards.numbers("train"), model, Group(0, 1, CPU))
    batch = next(ClipLoader(shards, batch_size=6).batches(0))
    engine.begin_epoch(0)
    sums = engine.new_sums()

    def step(nan_share):
        model.nan_share = nan_share
        engine.train_step(batch, 0, 0, sums)
        return state_of(engine), torch.stack(list(sums.values())), engine.guard.counts.tolist()

    before, sums_before, counts = step(0.0)
    assert counts == [0, 0]
    for skipped in (1, 2):
        after, sums_after, counts = step(1.0)
        assert same(before, after)
        assert torch.equal(sums_before, sums_after)
        assert counts == [skipped, skipped]
    after, sums_after, counts = step(0.0)
    assert not same(before, after)
    assert sums_after[-1] == 2 * sums_before[-1], "clips"
    assert counts == [2, 0]
    assert engine.scaler.get_scale() == (2.0**14 if amp == "float16" else 1.0), "halved at every skipped step"
    assert all(value.isfinite().all() for value in after)


def test_too_many_in_a_row_end_the_run_and_leave_the_checkpoint(shards_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(nonfinite, "MOST_SKIPPED", 4)
    own = ("model.name=runs:Stopping", "model.options.nan_share=1.0", "checkpoint_every_steps=1", "epochs=5")
    with pytest.raises(TrainerError, match=r"epoch 2: the gradients of the last 6 steps were not finite.*lower"):
        run_small(shards_folder, tmp_path / "run", *own)
    checkpoint = load_newest(tmp_path / "run" / "checkpoints")
    assert (checkpoint["progress"]["epoch"], checkpoint["progress"]["step"]) == (1, 0)
    assert all(value.isfinite().all() for value in checkpoint["model"].values())
