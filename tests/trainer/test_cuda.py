"""The trainer on a real GPU: the same pixels, the same steps, no waiting. Skipped where there is none."""

import math

import numpy as np
import pytest
import torch
from recurrent import CLIPS, HALF, gradient_of_features
from runs import SMALL, run_small

from trainer.config.load import load_settings
from trainer.config.settings import ModelSettings
from trainer.data.loader import ClipLoader
from trainer.devices.distributed import Group
from trainer.engine.assemble import make_engine, make_model
from trainer.engine.batch_size import choose_batch_size
from trainer.models.build import build_model
from trainer.predict import main as predict
from trainer.shards.shard_set import open_shards
from trainer.train import train

pytestmark = [
    pytest.mark.needs_cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
EVERY_AUGMENTATION = (
    "augment.blur=1", "augment.noise=0.1", "augment.jpeg=50", "augment.frame_dropout=0.2", "augment.saturation=0.2",
)  # fmt: skip


def engine_on(device, shards, *overrides):
    torch.manual_seed(0)
    settings = load_settings(None, (*SMALL, "model.dropout=0", *overrides))
    numbers = shards.numbers("train")
    engine = make_engine(settings, shards, numbers, make_model(settings, shards, numbers, None), Group(0, 1, device))
    engine.begin_epoch(0)
    return engine


@pytest.fixture
def waits_allowed_again():
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("cache", ["none", "ram", "device"])
@pytest.mark.parametrize("codec", ["shards_folder", "raw_folder"])
def test_the_same_pixels_as_on_a_cpu(request, codec, cache):
    folder = request.getfixturevalue(codec)
    on_gpu = ClipLoader(folder, batch_size=6, device=CUDA, cache=cache)
    on_cpu = ClipLoader(folder, batch_size=6)
    for epoch in range(3):
        for theirs, ours in zip(on_cpu.batches(epoch), on_gpu.batches(epoch), strict=True):
            assert ours.clips.device == CUDA and torch.equal(theirs.clips, ours.clips.cpu())
            assert np.array_equal(theirs.numbers, ours.numbers)
    on_gpu.close()
    on_cpu.close()


@pytest.mark.parametrize("overrides", [(), EVERY_AUGMENTATION, ("data.frames=3", "data.size=8"), ("accumulate=3",)])
def test_a_step_as_on_a_cpu(shards_folder, overrides):
    shards, gradients = open_shards(shards_folder), []
    for device in (CPU, CUDA):
        engine = engine_on(device, shards, "amp=float32", *overrides)
        batch = next(ClipLoader(shards, batch_size=6, device=device).batches(0))
        added = engine.add_gradients(batch, 0)
        flat = torch.cat([parameter.grad.flatten() for parameter in engine.model.parameters()])
        gradients.append((torch.stack(list(added.values())).cpu(), flat.cpu()))
    (cpu_sums, cpu), (gpu_sums, gpu) = gradients
    assert torch.allclose(cpu_sums, gpu_sums, rtol=1e-2, atol=1e-2)
    assert torch.nn.functional.cosine_similarity(cpu, gpu, dim=0) > 0.99  # convolutions may round as TF32


@pytest.mark.parametrize("dtype", HALF)
def test_the_gradients_of_a_small_loss_reach_the_backbone(dtype):
    """In float16, which cuDNN's recurrent layers take under any autocast, they are 0."""
    expected, got = (gradient_of_features(CUDA, precision, 1e-6) for precision in (torch.float32, dtype))
    assert expected.norm() > 0
    assert (got - expected).norm() < 1e-3 * expected.norm()


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers_of_custom_models_learn_from_a_small_loss(kind):
    gradients = []
    for is_half in (False, True):
        torch.manual_seed(0)
        own = ModelSettings(name="recurrent:Recurrent", options={"kind": kind})
        model = build_model(own, 2).to(CUDA)
        with torch.autocast("cuda", torch.bfloat16, enabled=is_half):
            logits = model(CLIPS.to(CUDA))
        (torch.nn.functional.cross_entropy(logits.float(), torch.tensor([0, 1], device=CUDA)) * 1e-6).backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.layer.parameters()]))
    exact, half = gradients
    assert (half - exact).norm() < 0.1 * exact.norm()  # the layers around them round as bfloat16


@pytest.mark.parametrize("amp", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("overrides", [(), (*EVERY_AUGMENTATION, "data.frames=3", "ema=0.9", "accumulate=2")])
def test_a_step_never_waits(shards_folder, waits_allowed_again, amp, overrides):
    shards = open_shards(shards_folder)
    engine = engine_on(CUDA, shards, f"amp={amp}", *overrides)
    loader = ClipLoader(shards, batch_size=6, device=CUDA, cache="device")
    sums = engine.new_sums()
    for epoch in range(2):  # the second one from the cache, with every constant and state there
        for step, batch in enumerate(loader.batches(epoch)):
            engine.train_step(batch, epoch, step, sums)
        torch.cuda.set_sync_debug_mode("error")
    loader.close()
    torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(sums["loss"]) and sums["clips"] > 0


@pytest.mark.parametrize("amp", ["auto", "float16"])
def test_a_whole_run(shards_folder, tmp_path, amp):
    settings = load_settings(None, (*SMALL, "epochs=6", "ema=0.5", f"amp={amp}"))
    results = train(settings, shards_folder, tmp_path / "run", Group(0, 1, CUDA), False)
    assert results["test"]["auc_roc"] > 0.9
    assert results["environment"]["device"] == torch.cuda.get_device_name(0)
    assert results["environment"]["precision"] in (("float16",) if amp == "float16" else ("bfloat16", "float16"))
    assert results["training"]["gpu_memory_gb"] > 0


def test_a_run_goes_on_on_a_cpu(shards_folder, tmp_path):
    train(load_settings(None, SMALL), shards_folder, tmp_path / "run", Group(0, 1, CUDA), False)
    results = run_small(shards_folder, tmp_path / "run", "epochs=3", resume=True)
    assert results["epochs_trained"] == 3


def test_the_batch_size_is_measured(shards_folder):
    shards = open_shards(shards_folder)
    settings = load_settings(None, (*SMALL, "batch_size=auto"))
    numbers = np.resize(shards.numbers("train"), 400)
    model = make_model(settings, shards, numbers, None)
    size, why = choose_batch_size(settings, shards, numbers, model, Group(0, 1, CUDA), 0)
    assert size == 2 ** int(math.log2(40)) and "GB of the GPU's memory" in why


def test_scores_of_raw_videos_as_on_a_cpu(shards_folder, data_folder, tmp_path):
    train(load_settings(None, (*SMALL, "amp=float32")), shards_folder, tmp_path / "run", Group(0, 1, CUDA), False)
    scores = []
    for devices in ("cpu", "auto"):
        out = tmp_path / f"{devices}.csv"
        arguments = ["--run", str(tmp_path / "run"), str(data_folder / "test"), "--csv", str(out)]
        predict([*arguments, "--devices", devices], standalone_mode=False)
        scores.append([float(line.split(",")[1]) for line in out.read_text().splitlines()[1:]])
    assert len(scores[0]) == 8 and np.allclose(*scores, atol=1e-2)
