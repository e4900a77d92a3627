"""Video encoders of the library transformers, by their names on Hugging Face's hub, from folders, or from scratch.

The library takes 10 to 20 seconds to import, so nothing here does at once. Weights are looked for in the hub's local
cache first: without a network, the hub's own functions wait for half a minute.
"""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.errors import SettingsError
from trainer.models.weights import ON_THE_HUB, hub_file, prefix_of, read_weights
from trainer.tasks.multimodal.renormalise import Renormalise
from trainer.tasks.multimodal.settings import SAVED, VideoSettings
from trainer.transforms.clips import MEAN, STD

DEFAULT = "MCG-NJU/videomae-base-finetuned-kinetics"  # what `auto` looks for; its weights are CC-BY-NC-4.0
TIME_FIRST = {"videomae": True, "vivit": True, "vjepa2": True, "timesformer": False}  # the order of the tokens
LEFT_OUT = (  # of a config.json: what decides no shape
    "id2label", "label2id", "architectures", "torch_dtype", "dtype", "transformers_version", "_name_or_path",
)  # fmt: skip
INSTALL = "pip install 'shardify[multimodal]', or pip install transformers"
OLD_BIAS = re.compile(r"(attention\.attention)\.([qv])_bias$")  # of VideoMAE up to transformers 4


def find_file(name: str, files: tuple[str, ...]) -> Path | None:
    """The first of these files of a model: in a folder, in the hub's cache, or fetched; None where it cannot be had."""
    folder = Path(name)
    if folder.is_dir():
        return next((folder / file for file in files if (folder / file).is_file()), None)
    try:
        return hub_file(name, files)
    except Exception:  # a dozen types where there is no client, no such model or file, no access or no network
        return None


def is_installed() -> bool:
    """Whether transformers is there, without importing it."""
    return find_spec("transformers") is not None


def find_default() -> tuple[str, str]:
    """The encoder that `auto` comes to where it can be had, "" where it cannot, and why not."""
    if not is_installed():
        return "", f"transformers is not installed ({INSTALL})"
    if find_file(DEFAULT, ("config.json",)) is None or find_file(DEFAULT, ON_THE_HUB) is None:
        return "", f"{DEFAULT} is not in the hub's cache here and cannot be fetched"
    return DEFAULT, ""


def read_options(name: str) -> dict:
    """What decides the shapes of a model: its config.json. Raises SettingsError."""
    if name in _library(name).CONFIG_MAPPING:
        return {"model_type": name}
    path = find_file(name, ("config.json",))
    if path is None:
        raise SettingsError(
            f"model.video.encoder: {name} is neither tiny, r3d_18, a folder with a config.json, a type of model of "
            f"transformers, nor a model in the hub's cache or within reach; download it elsewhere and pass its folder"
        )
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
        preprocessor = find_file(name, ("preprocessor_config.json",))
        own = json.loads(preprocessor.read_text(encoding="utf-8")) if preprocessor else {}
        options = {key: value for key, value in options.items() if key not in LEFT_OUT}
        return options | {key: own[key] for key in ("image_mean", "image_std") if key in own}
    except (OSError, ValueError, AttributeError) as error:
        raise SettingsError(f"{path}: cannot be read ({error}); download the model again") from error


def _library(name: str) -> ModuleType:
    """transformers, which the encoder of this name needs. Raises SettingsError where it cannot be imported."""
    try:
        import transformers
    except ImportError as error:
        raise SettingsError(f"model.video.encoder is {name}, which needs transformers ({error}): {INSTALL}") from error
    return transformers


class TransformersVideo(nn.Module):
    """A video model of transformers whose tokens are averaged over space: (B, T, 3, S, S) to (B, moments, D).

    VideoMAE (Tong et al., 2022) is the one tried most. Its last hidden state has a token per place of a grid over time
    and space, with or without a class token before them.
    """

    def __init__(self, settings: VideoSettings, frames: int, size: int) -> None:
        """settings: `options` is the model's config.json. Raises SettingsError."""
        transformers = _library(settings.encoder)
        super().__init__()
        options = dict(settings.options)
        mean, deviation = options.pop("image_mean", MEAN), options.pop("image_std", STD)
        try:
            config, own = transformers.AutoConfig.for_model(**options), transformers.AutoConfig.for_model(**options)
            for names, value in ((("num_frames", "frames_per_clip"), frames), (("image_size", "crop_size"), size)):
                for name in names:
                    if hasattr(own, name):
                        setattr(own, name, value)
            self.model = transformers.AutoModel.from_config(own)
        except Exception as error:  # whatever its constructors raise for options that do not fit
            reason = " ".join(str(error).split())
            raise SettingsError(
                f"model.video.options: {options.get('model_type')} cannot be made ({reason})"
            ) from error
        self.is_time_first = _is_time_first(own)
        tubelet = getattr(own, "tubelet_size", 1)
        self.moments = frames // (tubelet[0] if isinstance(tubelet, (list, tuple)) else tubelet)
        self.renormalise = Renormalise(mean, deviation)
        if own.model_type == "videomae":
            self._place_positions(config, own)

    def _place_positions(self, config, own) -> None:
        """Make VideoMAE's fixed table of positions a buffer, interpolated where its grid is another.

        As it comes, it is copied to the device in every pass.
        """
        table, grid = self.model.embeddings.position_embeddings, _grid(own)
        if grid != _grid(config):
            whole = type(self.model.embeddings)(config).position_embeddings
            volume = whole.transpose(1, 2).unflatten(2, _grid(config))  # (1, D, t, h, w)
            table = functional.interpolate(volume, grid, mode="trilinear").flatten(2).transpose(1, 2)
        del self.model.embeddings.position_embeddings
        self.model.embeddings.register_buffer("position_embeddings", table.contiguous(), persistent=False)

    def forward(self, clips: Tensor) -> Tensor:
        tokens = self.model(self.renormalise(clips)).last_hidden_state
        extra = tokens.shape[1] % self.moments  # the class token
        if self.is_time_first:
            return tokens[:, extra:].unflatten(1, (self.moments, -1)).mean(2)
        return tokens[:, extra:].unflatten(1, (-1, self.moments)).mean(1)


def _is_time_first(config) -> bool:
    """Whether the tokens of a moment stand together, not those of a place. Raises SettingsError where it is unknown."""
    if config.model_type not in TIME_FIRST or getattr(config, "attention_type", "") == "space_only":
        raise SettingsError(
            f"model.video.encoder: how models of type {config.model_type} order their tokens over time and space is "
            f"not known here; use one of {', '.join(TIME_FIRST)}, those with attention over time"
        )
    return TIME_FIRST[config.model_type]


def _grid(config) -> tuple[int, int, int]:
    side = config.image_size // config.patch_size
    return config.num_frames // config.tubelet_size, side, side


def names_weights(settings: VideoSettings) -> bool:
    """Whether the settings say where weights come from; a type of model has none of its own."""
    if settings.weights == "auto":
        return settings.encoder != settings.options.get("model_type")
    return settings.weights not in ("none", SAVED)


def make_encoder(settings: VideoSettings, frames: int, size: int) -> tuple[nn.Module, str]:
    """The encoder with these options, and where its weights came from. Raises SettingsError."""
    encoder = TransformersVideo(settings, frames, size)
    try:
        with torch.no_grad():
            encoder.eval()(torch.zeros(1, frames, 3, size, size))
    except Exception as error:  # whatever a model raises that takes no frames of this size
        reason = " ".join(str(error).split())
        raise SettingsError(
            f"model.video.encoder: {settings.encoder} does not take clips of {frames} frames of {size} px ({reason})"
        ) from error
    if not names_weights(settings):
        return encoder, "random"
    wanted = settings.encoder if settings.weights == "auto" else settings.weights
    path = Path(wanted) if Path(wanted).is_file() else find_file(wanted, ON_THE_HUB)
    if path is None:
        raise SettingsError(
            f"model.video.weights: {wanted} has no {' or '.join(ON_THE_HUB)} here, and none can be fetched; download "
            f"the model elsewhere and pass its folder, or use model.video.weights=none"
        )
    load_weights(encoder.model, path)
    return encoder, wanted


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a checkpoint of the library, of version 4 or 5, with or without a classifier after it.

    Raises SettingsError where a tensor of the model is not in it: the library would draw that by chance.
    """
    state = {OLD_BIAS.sub(_new_bias, key): value for key, value in read_weights(path).items()}
    own, prefix = model.state_dict(), prefix_of(state, model)
    missing = [name for name in own if prefix + name not in state]
    odd = [name for name in own if name not in missing and state[prefix + name].shape != own[name].shape]
    if missing or odd:
        what = (
            f"has no {prefix}{missing[0]}"
            if missing
            else f"has {odd[0]} of shape {tuple(state[prefix + odd[0]].shape)}"
        )
        raise SettingsError(
            f"model.video.weights: {path} does not fit this encoder: it {what} ({len(missing) + len(odd)} of "
            f"{len(own)} tensors do not fit); pass weights of the same model, or model.video.weights=none"
        )
    model.load_state_dict({name: state[prefix + name] for name in own})


def _new_bias(match: re.Match) -> str:
    return f"{match[1]}.{'query' if match[2] == 'q' else 'value'}.bias"
