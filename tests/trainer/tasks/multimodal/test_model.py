"""The model of video and sound: a modality that is absent has no part in its output."""

import socket

import numpy as np
import pytest
import torch
from runs import MULTIMODAL
from torchvision.models import Weights, WeightsEnum
from two_members import MEL

from trainer.config.load import load_settings
from trainer.config.settings import OptimizerSettings
from trainer.engine.optimizer import build_optimizer
from trainer.models import weights
from trainer.shards.shard_set import open_shards
from trainer.tasks import task_of
from trainer.tasks.multimodal.model import MultimodalModel

T, S, K = 5, 16, 4


def make(*overrides):
    torch.manual_seed(0)
    return MultimodalModel(load_settings(None, (*MULTIMODAL, "model.fusion.layers=2", *overrides)).model, K, T, S, MEL)


def clips_and_mels(count=4):
    generator = torch.Generator().manual_seed(1)
    clips = torch.randn(count, T, 3, S, S, generator=generator)
    return clips, torch.randn(count, *MEL.shape, generator=generator) - 5


BOTH = torch.ones(4, 2, dtype=torch.bool)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("absent", [0, 1])
def test_what_an_absent_modality_holds_changes_no_bit(absent, training):
    model, (clips, mels) = make("model.fusion.dropout=0").train(training), clips_and_mels()
    present = BOTH.clone()
    present[1:3, absent] = False
    values = (clips, mels)[absent]
    expected = model(clips, mels, present)
    for odd in (torch.nan, torch.inf, 1e30, 0):
        values[1:3] = odd
        assert torch.equal(model(clips, mels, present), expected)
    values[1:3] = torch.nan
    model(clips, mels, present).square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    values[0] += 1
    assert not torch.equal(model(clips, mels, present)[0], expected[0]), "that of the others does"


def test_clips_with_and_without_sound_in_one_batch_are_as_each_alone():
    model, (clips, mels) = make().eval(), clips_and_mels()
    present = torch.tensor([[True, True], [True, False], [False, True], [False, False]])
    whole = model(clips, mels, present)
    for i in range(4):
        alone = model(clips[i : i + 1], mels[i : i + 1], present[i : i + 1])
        torch.testing.assert_close(whole[i : i + 1], alone, atol=1e-6, rtol=0)
    assert torch.equal(whole[3], model.head[1].bias), "with neither, nothing is known"


def test_a_layer_shares_what_it_has_heard_with_what_it_sees():
    """With one layer, each modality sees bottlenecks that know nothing yet; with two, the other modality's."""
    clips, mels = clips_and_mels()
    for layers, is_told in ((1, False), (2, True)):
        model = make(f"model.fusion.layers={layers}").eval()
        of_video = model.attention(clips, mels, BOTH)["video"]
        assert torch.equal(of_video, model.attention(clips, mels + 1, BOTH)["video"]) is not is_told


def test_attention_over_the_moments_of_each_modality():
    model, (clips, mels) = make().eval(), clips_and_mels()
    found = model.attention(clips, mels, BOTH)
    assert {name: tuple(values.shape) for name, values in found.items()} == {"video": (4, 3), "audio": (4, 2)}
    assert all((values > 0).all() and (values.sum(1) < 1).all() for values in found.values())


def test_encoders_of_their_own_number_of_moments_and_of_features():
    model = make("model.audio.encoder=resnet18", "model.audio.weights=none", "model.modalities=[audio]").eval()
    assert (
        tuple(model.fusion.positions["audio"].shape) == (1, 1, 16) and model.fusion.inputs["audio"].in_features == 512
    )
    model = make("model.modalities=[video]").eval()
    assert torch.equal(model(clips_and_mels()[0]), model(*clips_and_mels(), BOTH))


def test_weights_of_resnet18_come_from_a_file_summed_over_colours(tmp_path):
    import torchvision

    whole = torchvision.models.resnet18(num_classes=3)
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in whole.state_dict().items()}}, tmp_path / "w.pth"
    )
    settings = ("model.audio.encoder=resnet18", f"model.audio.weights={tmp_path / 'w.pth'}", "model.audio.freeze=true")
    model = make(*settings, "model.modalities=[audio]").train()
    audio = model.encoders["audio"]
    assert torch.equal(audio.layers.conv1.weight, whole.conv1.weight.sum(1, keepdim=True))
    assert torch.equal(audio.layers.layer4[1].conv2.weight, whole.layer4[1].conv2.weight)
    assert not audio.training and model.training and not any(p.requires_grad for p in audio.parameters())


def test_tokens_and_positions_do_not_decay():
    model = make()
    groups = build_optimizer(model, OptimizerSettings()).param_groups
    still = {parameter for group in groups if not group["weight_decay"] for parameter in group["params"]}
    fusion = model.fusion
    assert {fusion.bottlenecks, *fusion.positions.values(), *fusion.classes.values()} < still
    assert fusion.inputs["video"].weight not in still


def test_a_server_that_does_not_answer_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "HUB_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as server:  # which accepts, and says nothing
        url = f"http://127.0.0.1:{server.getsockname()[1]}/weights.pth"
        published = WeightsEnum("published", {"DEFAULT": Weights(url, transforms=None, meta={})}).DEFAULT
        with pytest.raises(OSError, match="timed out"):
            weights.torchvision_state(published)


def test_modality_dropout_depends_on_seed_epoch_and_clip_alone(shards_folder):
    shards = open_shards(shards_folder)
    task = task_of(
        load_settings(None, (*MULTIMODAL, "model.modality_dropout=0.5", "seed=3")),
        shards.heads,
        shards.members | {"mel": MEL},
    )
    clips, mels = clips_and_mels(200)
    seeds = np.stack([np.arange(200), np.zeros(200, int)], 1)
    has_sound = torch.arange(200) % 4 > 0

    def present(epoch, chosen):
        members = {"mel": mels[chosen], "mel_present": has_sound[chosen]}
        return task.inputs(clips[chosen], members, epoch, seeds[chosen])[2]

    whole = present(1, slice(None))
    assert torch.equal(present(1, slice(50, 60)), whole[50:60]) and not torch.equal(present(2, slice(None)), whole)
    assert whole.any(1).all() and torch.equal(
        whole[~has_sound], BOTH[0].logical_and(torch.tensor([True, False])).expand(50, 2)
    )
    left_out = (~whole[has_sound]).float().mean(0)
    assert (left_out - 0.25).abs().max() < 0.08
    members = {"mel": mels, "mel_present": has_sound}
    assert torch.equal(task.inputs(clips, members)[2][:, 1], has_sound), "in evaluation none is left out"
