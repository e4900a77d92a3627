"""What `auto` comes to, and that a resumed run keeps it."""

import pytest
import torch
from torch import nn

from trainer.config.auto import OF_RESNET_LSTM, check_used, resolve_by_device, resolve_by_model, take_over
from trainer.config.load import load_settings
from trainer.config.settings import ModelSettings
from trainer.errors import SettingsError


@pytest.mark.parametrize(("device", "backbone"), [("cpu", "resnet18"), ("cuda", "resnet50")])
def test_by_device(device, backbone):
    assert resolve_by_device(load_settings(), torch.device(device)).model.backbone == backbone
    own = load_settings(None, ("model.backbone=tiny", "metric=f1"))
    assert resolve_by_device(own, torch.device(device)) == own


@pytest.mark.parametrize(
    ("origin", "batch_norm"),
    [("timm resnet50.tv2_in1k", "frozen"), ("a.pth", "frozen"), ("random (tiny)", "train"), (None, "train")],
)
def test_statistics_that_came_with_weights_are_kept(origin, batch_norm):
    model = nn.Linear(1, 1)
    if origin:
        model.weights_origin = origin
    assert resolve_by_model(load_settings(), model).model.batch_norm == batch_norm
    own = load_settings(None, ("model.batch_norm=train",))
    assert resolve_by_model(own, model) == own


def test_a_resumed_run_keeps_what_it_came_to():
    earlier = load_settings(
        None, ("batch_size=24", "model.backbone=resnet34", "model.batch_norm=frozen", "metric=f1", "seed=5")
    ).to_dict()
    assert take_over(load_settings(None, ("batch_size=auto", "seed=5")), earlier).to_dict() == earlier
    autoencoder = load_settings(None, ("model={name: autoencoder, level_channels: [32, 64]}", "metric=loss")).to_dict()
    again = load_settings(None, ("model={name: autoencoder}",))
    assert take_over(again, autoencoder).model.level_channels == [32, 64]
    stated = load_settings(None, ("batch_size=8", "model.backbone=tiny", "model.batch_norm=train", "metric=loss"))
    assert take_over(stated, earlier) == stated


@pytest.mark.parametrize("freeze", ["backbone", "all_but_norms"])
def test_random_weights_are_not_frozen_for_good(freeze):
    model = nn.Linear(1, 1)
    resolve_by_model(load_settings(None, (f"model.freeze={freeze}",)), model)  # may have loaded weights by itself
    model.weights_origin = "random (tiny)"
    with pytest.raises(SettingsError, match=rf"model\.freeze is {freeze}, .*model\.weights=PATH"):
        resolve_by_model(load_settings(None, (f"model.freeze={freeze}",)), model)
    resolve_by_model(load_settings(None, ("model.freeze=backbone", "model.unfreeze_every=1")), model)
    model.weights_origin = "a.pth"
    resolve_by_model(load_settings(None, (f"model.freeze={freeze}",)), model)


OTHERS = (
    "backbone=tiny", "weights=none", "drop_path=0.1", "differences=False", "temporal=transformer", "lstm_hidden=8",
    "lstm_layers=2", "attention_heads=2", "pool=max", "head=cosine", "dropout=0.1",
)  # fmt: skip


@pytest.mark.parametrize("text", OTHERS)
def test_settings_that_a_custom_model_does_not_have(text):
    name, value = text.split("=")
    check_used(load_settings(None, (f"model.{text}",)))
    with pytest.raises(
        SettingsError, match=rf"model\.{name} is {value}, .* only resnet_lstm has it, not a\.b:C"
    ) as caught:
        check_used(load_settings(None, ("model.name=a.b:C", f"model.{text}")))
    assert "model.options" in str(caught.value)


def test_settings_that_a_custom_model_has():
    used = ("freeze=backbone", "unfreeze_every=2", "batch_norm=train", "compile=true", "options.width=3")
    settings = load_settings(None, ("model.name=a.b:C", *(f"model.{text}" for text in used)))
    check_used(settings)
    assert resolve_by_device(settings, torch.device("cpu")).model == settings.model, "it has no backbone of ours"
    known = {"name", "gradient_checkpointing", *(text.split("=")[0].split(".")[0] for text in used)}
    assert set(OF_RESNET_LSTM) | known == set(ModelSettings().__dataclass_fields__)
