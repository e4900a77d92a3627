"""The loader of autoencoders: a diffusers folder, a file of weights with its config, or a class of the user's own."""

from __future__ import annotations

import importlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from shardify.errors import ShardifyError
from shardify.format.index import sha256
from shardify.storage.local import file_sha256
from trainer.config.vae import VaeSpec
from trainer.errors import SettingsError, first_sentence
from trainer.models.autoencoders.vae import Vae
from trainer.models.custom import make_named
from trainer.models.weights import prefix_of, read_weights

INSTALL = "pip install 'shardify[diffusion]', or pip install diffusers"
KIND = "AutoencoderKL"  # of diffusers, which folders and weights files hold
WEIGHTS = "diffusion_pytorch_model.safetensors"  # of a folder that diffusers saves
FILES = (WEIGHTS, "diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.bin")
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # up to diffusers 0.14
OLD_NAME = re.compile(rf"(?<=\.attentions\.0\.)({'|'.join(OLD_NAMES)})(?=\.(?:weight|bias)$)")
TRAINED_ON = "trained_on"  # among the metadata of a safetensors file, or in ABOUT
ABOUT = "about.json"  # beside the weights that a run has trained: what is needed to use them, and where they come from


def load_vae(spec: VaeSpec, device: torch.device) -> Vae:
    """The autoencoder of the options --vae…, frozen, in float32 on the device.

    Weights are tensors only, whatever the file. Raises SettingsError, one line, for options that do not go together,
    files that cannot be read and weights that do not fit, with the first key that does not.
    """
    if spec.is_class:
        model, record = _of_class(spec)
    else:
        model, record = _of_diffusers(spec)
    record[TRAINED_ON] = record.get(TRAINED_ON) or "unknown"
    input_range = spec.input_range or _own_range(model, spec)
    model = model.float().eval().requires_grad_(False).to(device)
    return Vae(model, device, input_range, record)


def import_diffusers() -> ModuleType:
    """The library diffusers. Raises SettingsError, which says how to get it."""
    try:
        return importlib.import_module("diffusers")
    except ImportError as error:
        raise SettingsError(
            f"diffusers is needed, and cannot be imported ({first_sentence(error)}); {INSTALL}"
        ) from error


def fit_state(model: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load weights, whatever stands before their names. Raises SettingsError with the first key that does not fit."""
    own, prefix = model.state_dict(), prefix_of(state, model)
    given = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    for name, value in own.items():
        if name not in given:
            raise SettingsError(f"{origin} does not fit {type(model).__name__}: it has no {name}")
        if given[name].shape != value.shape:
            shapes = f"{tuple(given[name].shape)}, not {tuple(value.shape)}"
            raise SettingsError(f"{origin} does not fit {type(model).__name__}: {name} is {shapes}")
    for name in [name for name in given if name not in own][:1]:
        raise SettingsError(f"{origin} does not fit {type(model).__name__}, which has no {name}")
    model.load_state_dict(given)


def _of_class(spec: VaeSpec) -> tuple[nn.Module, dict]:
    if spec.config:
        raise SettingsError(f"--vae-config goes with a weights file; {spec.vae} takes --vae-options")
    model = make_named(spec.vae, (), spec.options, ("--vae", "--vae-options"))
    for name in ("encode", "decode"):
        if not callable(getattr(model, name, None)):
            raise SettingsError(f"--vae: {spec.vae} has no {name}; it must have encode(images) and decode(latents)")
    record = {"class": spec.vae, "config": spec.options}
    if spec.weights is None:
        from safetensors.torch import save

        # tied weights share their memory, which safetensors refuses
        state = {name: value.clone(memory_format=torch.contiguous_format) for name, value in model.state_dict().items()}
        return model, {**record, "sha256": sha256(save(state))}  # of what its file would be
    fit_state(model, _read(spec.weights, "--vae-weights"), f"--vae-weights: {spec.weights}")
    return model, {**record, **_of_file(spec.weights)}


def _own_range(model: nn.Module, spec: VaeSpec) -> tuple[float, float]:
    given = getattr(model, "input_range", (-1.0, 1.0))
    try:
        low, high = map(float, given)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (low < high and math.isfinite(high - low)):
        raise SettingsError(
            f"--vae: the input_range of {spec.vae} is {given!r}; it must be two numbers, the lower one first, "
            f"for example (-1.0, 1.0)"
        )
    return low, high


def _of_diffusers(spec: VaeSpec) -> tuple[nn.Module, dict]:
    if spec.weights or spec.options:
        given = "--vae-weights" if spec.weights else "--vae-options"
        raise SettingsError(f"{given} goes with a class, package.module:Class; --vae is {spec.vae}")
    path = Path(spec.vae)
    if path.is_dir():
        weights, config = _in_folder(path), spec.config or path / "config.json"
    elif path.is_file():
        if spec.config is None:
            raise SettingsError(f"--vae: {path} is a file of weights; pass its config, a JSON file, with --vae-config")
        weights, config = path, spec.config
    else:
        raise SettingsError(f"--vae: {path} is not there; pass a diffusers folder, a file or package.module:Class")
    model = _build(config)
    state = _read(weights, "--vae")
    new_names = [OLD_NAME.sub(lambda old: OLD_NAMES[old[0]], name) for name in state]
    fit_state(model, dict(zip(new_names, state.values(), strict=True)), f"--vae: {weights}")
    about = {name: value for name, value in model.config.items() if not name.startswith("_")}
    plain = json.loads(json.dumps(about, default=str))  # as it will come back out of index.json
    return model, {"class": f"diffusers:{KIND}", "config": plain, **_of_file(weights)}


def _in_folder(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        hint = f"; pass {folder / 'vae'}" if (folder / "vae" / "config.json").is_file() else ""
        raise SettingsError(f"--vae: {folder} has no config.json, so it is no diffusers folder of {KIND}{hint}")
    found = [folder / name for name in FILES if (folder / name).is_file()]
    if not found:
        raise SettingsError(f"--vae: {folder} holds no weights; one of {', '.join(FILES)} is needed")
    return found[0]


def _read(path: Path, asked_by: str) -> dict[str, Tensor]:
    if path.is_dir():  # of several files in it, which one would be meant?
        raise SettingsError(f"{asked_by}: {path} is a folder; pass the weights file in it")
    return read_weights(path, asked_by)


def _build(path: Path) -> nn.Module:
    """An AutoencoderKL with the values of a JSON file."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it holds no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"--vae: the config {path} cannot be read ({first_sentence(error)})") from error
    kind = config.get("_class_name", KIND)
    if kind != KIND:
        raise SettingsError(f"--vae: {path} is of {kind}; it must be of {KIND}, or pass package.module:Class")
    library = import_diffusers()
    try:
        return library.AutoencoderKL.from_config(config)
    except Exception as error:  # whatever a wrong value leads to
        if isinstance(error, ShardifyError):
            raise
        raise SettingsError(f"--vae: the config {path} makes no {KIND} ({first_sentence(error)})") from error


def _of_file(path: Path) -> dict[str, str]:
    """The hash of a weights file, and what they were trained on, where that is known."""
    return {"sha256": file_sha256(path), TRAINED_ON: _trained_on(path)}


def _trained_on(path: Path) -> str:
    """As the file's metadata say, or what a run has written beside it; "" where neither does."""
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            if said := (file.metadata() or {}).get(TRAINED_ON):
                return said
    try:
        said = json.loads(path.with_name(ABOUT).read_text(encoding="utf-8"))[TRAINED_ON]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
    return said if isinstance(said, str) else ""
