"""What a training step asks of a GPU, on machines without one: by torch's fake tensors, which know shapes and devices.

Tensors of two devices that meet are errors, as on a GPU, and so is what makes the CPU wait for it: a GPU that is
waited for at every step stands still while the next one is prepared.
"""

from collections import deque
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from shardify.format.members.frames import Frames
from trainer.config.load import load_settings
from trainer.data.batches import Batch
from trainer.data.cache import ClipCache
from trainer.data.transfer import Transfer
from trainer.devices.distributed import Group
from trainer.engine.assemble import make_engine
from trainer.tasks import task_of
from trainer.transforms.device_constants import _made

CUDA = torch.device("cuda", 0)
WAITING = ("aten._local_scalar_dense", "aten.nonzero", "aten._linalg_check_errors", "aten.equal", "aten.is_nonzero")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*[aA]utocast"),
    pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor"),
    pytest.mark.filterwarnings("ignore:torch.cuda.amp.GradScaler is enabled, but CUDA is not available"),
]


class Waits(TorchDispatchMode):
    """Notes the operations for which the CPU would wait."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = str(func)
        if name.startswith("aten._to_copy"):
            crosses, waits = args[0].device != result.device, not kwargs.get("non_blocking")
        elif name.startswith("aten.copy_"):
            crosses, waits = args[0].device != args[1].device, not (len(args) > 2 and args[2])
        else:
            crosses, waits = name.startswith(WAITING), True
        if crosses and waits:
            self.found.append(name)
        return result


@pytest.fixture
def fake_gpu(monkeypatch):
    """Tensors on CUDA without CUDA; gradients are zeros, for autograd itself asks for the real device."""
    monkeypatch.setattr(torch.backends.cudnn, "enabled", False)
    _made.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True), Waits() as waits:
        yield waits
    _made.cache_clear()


def fake_engine(monkeypatch, *overrides):
    settings = load_settings(
        None, ("batch_size=4", "amp=bfloat16", "model.backbone=tiny", "model.weights=none", *overrides)
    )
    samples = np.zeros(10, [("target", "f8")])
    shards = SimpleNamespace(
        classes=["fake", "real"], heads=(), members={}, labels=np.zeros(10, np.int16), samples=samples
    )
    size = settings.data.size or 32
    with torch._subclasses.fake_tensor.unset_fake_temporarily():
        model = task_of(settings).build_model(settings.model, 2, size)
    engine = make_engine(settings, shards, np.arange(10), model, Group(0, 1, CUDA))

    def backward(loss):
        assert loss.device == CUDA and loss.requires_grad
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    engine.begin_epoch(0)
    return engine


def fake_batch():
    clips = torch.zeros(4, 8, 32, 32, 3, dtype=torch.uint8, device=CUDA).permute(0, 1, 4, 2, 3)
    numbers = np.arange(4)
    return Batch({"frames": clips}, numbers, np.ones(4, bool), np.stack((numbers, numbers), 1))


EVERY_AUGMENTATION = (
    "augment.blur=1", "augment.noise=0.1", "augment.jpeg=50", "augment.frame_dropout=0.2", "augment.saturation=0.2",
)  # fmt: skip


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        (*EVERY_AUGMENTATION, "data.frames=4", "data.size=16", "ema=0.9", "accumulate=3"),
        ("loss.name=mse", "model.freeze=backbone", "model.unfreeze_every=1", "optimizer.layer_decay=0.5"),
        ("loss.name=focal", "loss.alpha=0.3", "scheduler.name=cosine", "optimizer.clip_norm=0"),
        ("loss.name=bce", "loss.class_weights=true", "model.backbone=test_vit"),
    ],
    ids=" ".join,
)
def test_a_step_stays_on_the_gpu_and_never_waits(fake_gpu, monkeypatch, overrides):
    engine, batch = fake_engine(monkeypatch, *overrides), fake_batch()
    sums = engine.new_sums()
    engine.train_step(batch, 0, 0, sums)  # which makes constants
    fake_gpu.found.clear()
    engine.train_step(batch, 0, 1, sums)
    assert fake_gpu.found == []
    assert {parameter.device for parameter in engine.model.parameters()} == {CUDA}
    assert {value.device for value in sums.values()} == {CUDA}


def test_the_cache_on_a_gpu_never_waits(fake_gpu):
    cache = ClipCache(6, {"frames": Frames(codec="raw", frames=8, size=32, cell=32)}, CUDA)
    cache.put(np.array([4, 1]), {"frames": torch.zeros(2, 8, 32, 32, 3, dtype=torch.uint8, device=CUDA)})
    assert cache.has(np.arange(6)).tolist() == [False, True, False, False, True, False]
    clips = cache.take(np.array([1, 4, 4]))["frames"]
    assert (clips.device, clips.shape, fake_gpu.found) == (CUDA, (3, 8, 32, 32, 3), [])


class Copying:
    """Stands for a GPU's stream of copies and its events: a copy is done once `behind` others have followed it."""

    behind, begun, waits = 1, 0, 0

    def record(self):
        Copying.begun += 1
        self.number = Copying.begun

    def synchronize(self):
        Copying.waits += Copying.begun - self.number < self.behind

    def wait_stream(self, other):
        pass


def test_a_buffer_that_is_being_copied_is_not_taken_back(fake_gpu, monkeypatch):
    """In the steady state one buffer is handed back and one taken per step: never the same, or the CPU would wait."""
    monkeypatch.setattr(Copying, "begun", 0)
    monkeypatch.setattr(Copying, "waits", 0)
    for name in ("Stream", "Event", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: Copying())
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: None)
    members = {"frames": Frames(codec="raw", frames=2, size=8, cell=8)}
    transfer, taken = Transfer(members, 3, CUDA), []
    waiting = deque(transfer.take_buffer() for _ in range(4))
    for _ in range(12):
        taken.append(id(waiting[0]))
        assert transfer.to_device(waiting.popleft(), 3)["frames"].device == CUDA
        waiting.append(transfer.take_buffer())
    assert Copying.waits == 0
    assert len(set(taken)) == 5, "and one buffer more is enough"


def test_what_waits_is_seen(fake_gpu):
    numbers = torch.zeros(3, device=CUDA)
    torch.tensor([1.0], device=CUDA)
    torch.ones(3).to(CUDA)
    numbers.to("cpu")
    assert len(fake_gpu.found) == 3
    with pytest.raises(RuntimeError, match=r"same device|different devices"):
        task_of(load_settings(None, ("loss.name=mse",))).clip_values(numbers[:, None], torch.zeros(3))
