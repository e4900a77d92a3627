"""Video encoders of transformers: checkpoints of its versions, positions, and machines without a network."""

import json
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from trainer.config.load import from_dict, load_settings
from trainer.errors import SettingsError
from trainer.tasks.multimodal import hub
from trainer.tasks.multimodal.resolve import resolve_encoders
from trainer.transforms.clips import MEAN, STD

transformers = pytest.importorskip("transformers")
T, S = 4, 16
TINY = {
    "model_type": "videomae", "image_size": S, "patch_size": 8, "num_frames": T, "tubelet_size": 2, "hidden_size": 8,
    "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
}  # fmt: skip
CLIPS = torch.randn(2, T, 3, S, S, generator=torch.Generator().manual_seed(0))


def video(**values):
    return from_dict({"model": {"name": "multimodal", "modalities": ["video"], "video": values}})


def encode(folder, frames=T, size=S, **values):
    settings, _ = resolve_encoders(video(encoder=str(folder), **values), torch.device("cpu"))
    encoder, origin = hub.make_encoder(settings.model.video, frames, size)
    return encoder.eval(), origin


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The folder of a checkpoint with a classifier, as the library writes it; no bias in it is 0."""
    folder = tmp_path_factory.mktemp("videomae")
    torch.manual_seed(0)
    model = transformers.VideoMAEForVideoClassification(transformers.VideoMAEConfig(**TINY, use_mean_pooling=False))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    return folder


def expected(folder):
    """The tokens that the library gives, averaged over space."""
    model = transformers.VideoMAEModel.from_pretrained(folder).eval()
    pixels = CLIPS * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    with torch.no_grad():
        return model((pixels - 0.5) / 0.25).last_hidden_state.unflatten(1, (T // 2, -1)).mean(2)


def test_a_checkpoint_gives_what_the_library_gives(published):
    encoder, origin = encode(published)
    with torch.no_grad():
        torch.testing.assert_close(encoder(CLIPS), expected(published))
    assert origin == str(published)
    assert "model.embeddings.position_embeddings" in dict(encoder.named_buffers()), "which moves with the model"


def with_state(published, folder, state):
    """The checkpoint with other tensors."""
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_bytes((published / "config.json").read_bytes())
    return folder


def names_of(state, version):
    """Version 4 of the library calls the biases of attention q_bias and v_bias, version 5 query.bias and value.bias."""
    pairs = [("q_bias", "query.bias"), ("v_bias", "value.bias")]
    for pair in pairs:
        old, new = pair if version == 5 else pair[::-1]
        state = {name.replace(f"attention.{old}", f"attention.{new}"): value for name, value in state.items()}
    return state


@pytest.mark.parametrize("version", [4, 5])
def test_names_of_both_versions_of_the_library_load_and_one_bias_that_is_not_there_fails(published, tmp_path, version):
    state = names_of(load_file(published / "model.safetensors"), version)
    bias = f"videomae.encoder.layer.1.attention.attention.{'v_bias' if version == 4 else 'value.bias'}"
    found = encode(with_state(published, tmp_path / "whole", state))[0].model.state_dict()
    wanted = encode(published)[0].model.state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert torch.equal(found["encoder.layer.1.attention.attention.value.bias"], state[bias])
    del state[bias]
    with pytest.raises(SettingsError, match=r"has no videomae\.encoder\.layer\.1\.\S+ \(1 of \d+ tensors do not fit\)"):
        encode(with_state(published, tmp_path / "without", state))


def test_positions_are_interpolated_for_other_frames_and_sizes(published):
    table = encode(published)[0].model.embeddings.position_embeddings
    larger = encode(published, frames=2 * T, size=2 * S)[0]
    grid = larger.model.embeddings.position_embeddings.unflatten(1, (4, 4, 4))
    corners = table.unflatten(1, (2, 2, 2))
    torch.testing.assert_close(grid[:, 0, 0, 0], corners[:, 0, 0, 0])
    torch.testing.assert_close(grid[:, -1, -1, -1], corners[:, -1, -1, -1])
    assert larger(torch.zeros(1, 2 * T, 3, 2 * S, 2 * S)).shape == (1, 4, 8)


def test_a_saved_encoder_is_made_again_without_its_checkpoint(published):
    settings, _ = resolve_encoders(video(encoder=str(published)), torch.device("cpu"))
    again = from_dict(json.loads(json.dumps(settings.to_dict()))).model.for_saved_weights().video
    encoder, origin = hub.make_encoder(again, T, S)
    loaded = encode(published)[0]
    encoder.load_state_dict(loaded.state_dict())
    assert origin == "random" and torch.equal(encoder.eval()(CLIPS), loaded(CLIPS))


def test_other_models_of_the_library_do_too_and_those_of_text_are_refused():
    options = {key: value for key, value in TINY.items() if key not in ("model_type", "tubelet_size")}
    settings = video(encoder="timesformer", weights="none", options={"model_type": "timesformer", **options})
    encoder, origin = hub.make_encoder(settings.model.video, T, S)
    assert origin == "random" and encoder.eval()(CLIPS).shape == (2, T, 8)
    with pytest.raises(SettingsError, match="timesformer does not take clips of 4 frames of 4 px"):
        hub.make_encoder(settings.model.video, T, 4)
    bert = {"model_type": "bert", "hidden_size": 8, "num_attention_heads": 2}
    for name, of_model in (("bert", bert), ("timesformer", options | {"attention_type": "space_only"})):
        unknown = video(encoder=name, options={"model_type": name, **of_model})
        with pytest.raises(SettingsError, match=f"type {name} order their tokens .* use one of videomae, vivit"):
            hub.make_encoder(unknown.model.video, T, S)
    with pytest.raises(SettingsError, match=r"model\.video\.options: videomae cannot be made"):
        hub.make_encoder(video(encoder="videomae", options={**TINY, "hidden_size": 9}).model.video, T, S)


@pytest.mark.parametrize("name", hub.TIME_FIRST)
def test_a_token_is_of_its_own_moment(name):
    own = {
        "vivit": {"tubelet_size": [2, 8, 8]},
        "vjepa2": {"crop_size": S, "frames_per_clip": T, "pred_hidden_size": 8, "pred_num_attention_heads": 2},
        "timesformer": {"tubelet_size": 1},
    }
    options = TINY | own.get(name, {}) | {"model_type": name}
    torch.manual_seed(0)
    encoder = hub.make_encoder(video(encoder=name, options=options).model.video, T, S)[0].eval()
    changed = CLIPS.clone()
    changed[:, -T // encoder.moments :] += 1
    with torch.no_grad():
        change = (encoder(changed) - encoder(CLIPS)).abs().mean((0, 2))
    assert change[-1] > 5 * change[:-1].max(), "the others see it by attention alone"


def test_without_the_library_an_encoder_with_options_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(SettingsError, match=r"encoder is videomae, which needs transformers .*pip install"):
        hub.make_encoder(video(encoder="videomae", options=TINY).model.video, T, S)


def test_the_licence_of_videomaes_weights_is_said_wherever_they_lie(published):
    def notes(**values):
        return resolve_encoders(video(**values), torch.device("cpu"))[1]

    file = str(published / "model.safetensors")
    for values in ({"encoder": str(published)}, {"encoder": "videomae", "weights": file}):
        assert "CC-BY-NC-4.0: not for commercial use" in " ".join(notes(**values))
    for values in ({"encoder": str(published), "weights": "none"}, {"encoder": "videomae"}, {"encoder": "tiny"}):
        assert notes(**values) == []


def test_without_a_network_auto_falls_back_and_says_so(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    settings, notes = resolve_encoders(load_settings(None, ("model.name=multimodal",)), torch.device("cpu"))
    assert (settings.model.video.encoder, settings.model.audio.encoder) == ("tiny", "tiny")
    assert notes == [
        f"model.video.encoder auto: tiny, a 3D CNN, in place of VideoMAE: {hub.DEFAULT} is not in the hub's cache here "
        "and cannot be fetched"
    ]
    with pytest.raises(SettingsError, match="nor a model in the hub's cache or within reach"):
        resolve_encoders(video(encoder="somebody/videomae"), torch.device("cpu"))
