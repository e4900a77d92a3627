"""What a checkpoint holds goes back into another engine, also one of another precision."""

import pytest
import torch
from runs import CPU, SMALL, Stopping

from trainer.config.load import load_settings
from trainer.data.loader import ClipLoader
from trainer.devices.distributed import Group
from trainer.engine.assemble import make_engine
from trainer.engine.checkpoint import Progress, load_newest, load_state, save_state
from trainer.errors import TrainerError
from trainer.shards.shard_set import open_shards


def engine_of(shards, amp):
    torch.manual_seed(0)
    settings = load_settings(None, (*SMALL, f"amp={amp}"))
    engine = make_engine(settings, shards, shards.numbers("train"), Stopping(2), Group(0, 1, CPU))
    engine.begin_epoch(0)
    return engine


@pytest.mark.parametrize(("written", "read"), [("float16", "float16"), ("float32", "float16"), ("float16", "float32")])
def test_the_gradients_scale_goes_along_where_both_have_one(shards_folder, tmp_path, written, read):
    """A run with amp=auto may go on on another GPU, whose precision is another."""
    shards = open_shards(shards_folder)
    first, second = engine_of(shards, written), engine_of(shards, read)
    first.model.nan_share = 1.0  # the step is skipped, which halves the scale
    first.train_step(next(ClipLoader(shards, batch_size=6).batches(0)), 0, 0, first.new_sums())
    save_state(first, Progress(epoch=3), 5, tmp_path, shards.fingerprint)
    progress = load_state(second, load_newest(tmp_path / "checkpoints"))
    assert (progress.epoch, progress.skips) == (3, [1, 1])
    expected = {("float16", "float16"): 2.0**15, ("float32", "float16"): 2.0**16}.get((written, read), 1.0)
    assert second.scaler.get_scale() == expected
    assert all(map(torch.equal, first.model.state_dict().values(), second.model.state_dict().values()))


def test_a_checkpoint_of_another_model_is_one_line(shards_folder, tmp_path):
    shards = open_shards(shards_folder)
    engine = engine_of(shards, "float32")
    save_state(engine, Progress(), 5, tmp_path, shards.fingerprint)
    state = load_newest(tmp_path / "checkpoints")
    without_one = {**state["optimizer"], "param_groups": state["optimizer"]["param_groups"][1:]}
    for changed in ({"model": {"other.weight": torch.zeros(1)}}, {"optimizer": without_one}):
        with pytest.raises(TrainerError, match="does not fit resnet_lstm as it is here"):
            load_state(engine, state | changed)


def test_sums_without_names_are_those_of_0_2_0(shards_folder, tmp_path):
    shards = open_shards(shards_folder)
    engine = engine_of(shards, "float32")
    save_state(engine, Progress(step=2, sums=[1.5, 3.0, 4.0]), 5, tmp_path, shards.fingerprint)
    progress = load_state(engine, load_newest(tmp_path / "checkpoints"))
    assert progress.sums == {"loss": 1.5, "correct": 3.0, "clips": 4.0}
