"""ClipLoader as other tools expect a loader: its state, copies, forks, arguments; under Lightning and accelerate."""

import copy
import logging
import multiprocessing
import pickle

import numpy as np
import pytest
import torch
from folders import FRAMES, SIZE
from foreign_tars import write
from torch import nn

from trainer import ClipLoader
from trainer.errors import SettingsError, TrainerError


def labels_of(batches):
    return [labels.tolist() for _, labels in batches]


def reference(folder, epochs=3, batch_size=4):
    clip_loader = ClipLoader(folder, batch_size=batch_size)
    return [[clips for clips, _ in clip_loader] for _ in range(epochs)]


def same(found, expected):
    return len(found) == len(expected) and all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("taken", [0, 1, 3, 5])
def test_a_state_goes_on_at_the_next_batch(shards_folder, taken):
    """After no batch, some, and all of an epoch of five, whose end the consumer may not have asked for."""
    expected, first = reference(shards_folder), ClipLoader(shards_folder, batch_size=4)
    batches = iter(first)
    for _ in range(taken):
        next(batches)
    state = pickle.loads(pickle.dumps(first.state_dict()))
    second = ClipLoader(shards_folder, batch_size=4)
    second.load_state_dict(state)
    assert second.state_dict() == state
    rest = expected[0][taken:] or expected[1]
    assert same([clips for clips, _ in second], rest)
    assert same([clips for clips, _ in second], expected[1 if taken < 5 else 2])


def test_a_state_of_another_order_is_refused(shards_folder):
    first = ClipLoader(shards_folder, batch_size=4)
    next(iter(first))
    for argument, value in (("batch_size", 5), ("seed", 1)):
        other = ClipLoader(shards_folder, **{"batch_size": 4, argument: value})
        with pytest.raises(SettingsError, match=f"{argument} is {value}, the state has"):
            other.load_state_dict(first.state_dict())
        list(first)
        other.load_state_dict(first.state_dict())  # at an epoch's start no order is continued
        next(iter(first))


def test_a_state_of_a_version_without_pairs_has_none(shards_folder):
    first = ClipLoader(shards_folder, batch_size=4)
    next(iter(first))
    state = {name: value for name, value in first.state_dict().items() if name != "pairs"}
    other = ClipLoader(shards_folder, batch_size=4)
    other.load_state_dict(state)
    assert other.state_dict() == first.state_dict()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": None}, "the state's epoch is None; a whole number"),
        ({"epoch": -1}, "the state's epoch is -1"),
        ({"step": "2"}, "the state's step is '2'; a whole number"),
        ({"step": 5}, "the state's step is 5; an epoch has 5 steps"),
    ],
)
def test_a_state_of_no_place_is_refused(shards_folder, changes, message):
    clip_loader = ClipLoader(shards_folder, batch_size=4)
    state = clip_loader.state_dict()
    with pytest.raises(SettingsError, match=message):
        clip_loader.load_state_dict(state | changes)
    with pytest.raises(SettingsError, match="the state's epoch is None"):
        clip_loader.load_state_dict({})
    assert clip_loader.state_dict() == state


def test_an_epoch_that_is_set(shards_folder):
    expected, clip_loader = reference(shards_folder), ClipLoader(shards_folder, batch_size=4)
    for epoch in (2, 0, 1):
        clip_loader.set_epoch(epoch)
        assert clip_loader.state_dict()["epoch"] == epoch
        assert same([clips for clips, _ in clip_loader], expected[epoch])
    clip_loader.load_state_dict(clip_loader.state_dict() | {"epoch": 1, "step": 3})
    clip_loader.set_epoch(1)  # as loops do at each epoch's start: the step that was loaded stays
    assert same([clips for clips, _ in clip_loader], expected[1][3:])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda loader: pickle.loads(pickle.dumps(loader))])
@pytest.mark.parametrize("cache", ["none", "ram"])
def test_a_used_loader_is_copied_like_a_fresh_one(shards_folder, copied, cache):
    expected, used = reference(shards_folder), ClipLoader(shards_folder, batch_size=4, cache=cache)
    list(used)
    under_way = iter(used)
    next(under_way)
    assert len(pickle.dumps(used)) < 50_000, "cached clips stay behind"
    other = copied(used)
    assert same([clips for clips, _ in other], expected[2])
    assert same([clips for clips, _ in under_way], expected[1][1:]), "the original goes on undisturbed"


def in_a_fork(target, *arguments):
    """What `target(pipe, …)` sends from a forked process, which must end by itself."""
    here, there = multiprocessing.get_context("fork").Pipe()
    process = multiprocessing.get_context("fork").Process(target=target, args=(there, *arguments))
    process.start()
    assert here.poll(60), "the fork hangs"
    process.join(60)
    assert process.exitcode == 0
    return here.recv()


def test_a_fork_after_use(shards_folder):
    """Threads do not survive a fork: the loader starts its own there; a pass that was under way says so."""
    expected, clip_loader = reference(shards_folder, 2), ClipLoader(shards_folder, batch_size=4)
    list(clip_loader)
    under_way = clip_loader.batches(5)
    next(under_way)

    def fork(pipe):
        try:
            list(under_way)
        except TrainerError as error:
            said = str(error)
        found = [clips.numpy() for clips, _ in clip_loader]
        clip_loader.close()
        pipe.send((said, found))

    said, found = in_a_fork(fork)
    assert "began before a fork" in said
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(found, expected[1], strict=True))
    assert len(list(under_way)) == 4


def test_the_dataset_is_counted(shards_folder):
    assert len(ClipLoader(shards_folder).dataset) == 20
    assert len(ClipLoader(shards_folder, numbers=np.array([3, 5])).dataset) == 2


@pytest.mark.parametrize("cache", ["none", "ram"])
def test_clips_are_contiguous(shards_folder, cache):
    clip_loader = ClipLoader(shards_folder, batch_size=8, cache=cache)
    for _ in range(2):
        for clips, _ in clip_loader:
            assert clips.is_contiguous() and clips.view(len(clips), -1).shape[1] == FRAMES * 3 * SIZE * SIZE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 2.5}, "batch_size is 2.5; a whole number"),
        ({"seed": -1}, "seed is -1"),
        ({"workers": -2}, "workers is -2"),
        ({"shuffle_shards": -1}, "shuffle_shards is -1"),
        ({"cache": "gpu"}, "cache is 'gpu'; choose one of auto, device, ram, none"),
        ({"on_error": "ignore"}, "on_error is 'ignore'; choose one of stop, skip"),
        ({"max_errors": 2}, "max_errors is 2"),
        ({"world": 0}, "world is 0"),
        ({"rank": 2, "world": 2}, "rank is 2; with world=2"),
        ({"rank": -1, "world": 2}, "rank is -1"),
        ({"device": f"cuda:{torch.cuda.device_count()}"}, "device is cuda:"),
        ({"device": "mps"}, "device is mps"),
        ({"chache": "ram"}, "unknown option chache of ClipLoader; did you mean cache?"),
        ({"rotate": 1, "seed": 2}, "unknown option rotate of ClipLoader; known: batch_size, members, device, shuffle"),
        ({"device": "gpu"}, "device is 'gpu'; choose cpu, cuda"),
        ({"numbers": np.array([0, 36])}, "numbers has 36; clips are numbered from 0 to 35"),
        ({"numbers": np.array([-1])}, "numbers has -1"),
        ({"numbers": np.ones(36, bool)}, "numbers is bool"),
    ],
)
def test_arguments_are_refused_by_name(shards_folder, arguments, message):
    with pytest.raises(SettingsError, match=message):
        ClipLoader(shards_folder, **arguments)


def test_tars_that_fit_no_split_are_said_where_a_loader_opens_them(tmp_path, caplog):
    path = write(tmp_path / "clips\x1b[2J.tar", [{"__key__": "a", "npy": np.zeros((2, 8, 8, 3), np.uint8), "cls": 0}])
    with caplog.at_level(logging.WARNING):
        ClipLoader(path)
    assert r"no word in clips\x1b[2J.tar says train, val or test" in caplog.text


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, clips):
        return self.head(clips.float().mean((1, 3, 4)) / 255)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("taken", "first", "saved"),
    [
        (5, {"max_epochs": 1}, {"every_n_epochs": 1, "save_on_train_epoch_end": True}),
        (5, {"max_steps": 5}, {"every_n_train_steps": 5}),
        (7, {"max_steps": 7}, {"every_n_train_steps": 7}),
    ],
)
def test_lightning_resumes_at_the_next_batch(shards_folder, tmp_path, taken, first, saved):
    """At an epoch's end, where Lightning sets the epoch, and in its middle, where it loads the state."""
    lightning = pytest.importorskip("lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model, self.seen = Linear(), []

        def training_step(self, batch, step):
            self.seen.append(batch[1].tolist())
            return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 1e-3)

    def fit(module, limit, **resume):
        options = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
        keeping = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path, "{step}", **saved)
        trainer = lightning.Trainer(accelerator="cpu", callbacks=[keeping], **limit, **options)
        trainer.fit(module, ClipLoader(shards_folder, batch_size=4), **resume)

    fit(Module(), first)
    resumed, plain = Module(), ClipLoader(shards_folder, batch_size=4)
    more = {name: 15 if name == "max_steps" else 3 for name in first}
    fit(resumed, more, ckpt_path=tmp_path / f"step={taken}.ckpt")
    assert resumed.seen == [labels for _ in range(3) for labels in labels_of(plain)][taken:]


@pytest.mark.filterwarnings("ignore")
def test_accelerate_trains_saves_and_goes_on(shards_folder, tmp_path):
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    model = Linear()
    clip_loader = ClipLoader(shards_folder, batch_size=4, rank=accelerator.process_index, device=accelerator.device)
    model, optimizer, clip_loader = accelerator.prepare(model, torch.optim.SGD(model.parameters(), 0.1), clip_loader)
    accelerator.register_for_checkpointing(clip_loader)
    seen = []
    for step, (clips, labels) in enumerate(clip_loader):
        accelerator.backward(nn.functional.cross_entropy(model(clips), labels))
        optimizer.step()
        seen.append(accelerator.gather(labels).tolist())
        if step == 2:
            accelerator.save_state(tmp_path / "state")
    accelerator.load_state(tmp_path / "state")
    assert labels_of(clip_loader) == seen[3:]
    assert len(clip_loader.dataset) == 20
