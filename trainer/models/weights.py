"""Weights: tensors by name, from files, whoever has saved them, and from the Hugging Face hub; the parts they fit."""

from __future__ import annotations

import logging
import sys
import urllib.request
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from trainer.errors import SettingsError
from trainer.torch_files import read_torch_file

NO_FILE = ("auto", "pretrained", "none")  # what model.weights may be beside a path
WRAPPERS = (  # under which timm, Lightning, runs and many scripts save them
    "state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model",
)  # fmt: skip
ON_THE_HUB = ("model.safetensors", "pytorch_model.bin")
IN_A_FOLDER = ("models/best_model.pth", *ON_THE_HUB)  # of a run, and of a copy from the hub
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
HEADS = ("fc.", "classifier.", "head.", "heads.", "head_dist.", "classif.", "last_linear.")  # of other classifiers
PIXELS = ("pixel_scale", "pixel_shift")  # a backbone's buffers, which files of others do not have
HUB_TIMEOUT_SECONDS = 5

logger = logging.getLogger(__name__)


def read_weights(path: Path, asked_by: str = "model.weights") -> dict[str, Tensor]:
    """The tensors, by name, of a .safetensors or torch file, or of the one in a folder: a run's, or a copy from a hub.

    asked_by: the setting or option that names it. Raises SettingsError, one line, for what is no such file.
    """
    if path.is_dir():
        path = _file_in(path, asked_by)
    if not path.is_file():
        others = "auto, pretrained, none, " if asked_by == "model.weights" else ""
        raise SettingsError(
            f"{asked_by}: {path} is not a file; use {others}a weights file, or a folder with one, for example a run's"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = read_torch_file(path)
        state = next((state[name] for name in WRAPPERS if isinstance(state.get(name), dict)), state)
        return {name: value for name, value in state.items() if isinstance(value, Tensor)}
    except Exception as error:  # the readers raise a dozen types for damaged files
        raise SettingsError(f"{asked_by}: {path} is not a readable weights file ({error})") from error


def _file_in(folder: Path, asked_by: str) -> Path:
    for name in IN_A_FOLDER:
        if (folder / name).is_file():
            return folder / name
    found = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    if len(found) == 1:
        return found[0]
    held = f"{len(found)} weights files ({found[0].name}, …); name one of them" if found else "no weights file"
    raise SettingsError(f"{asked_by}: {folder} holds {held}, nor is it a run's folder with {IN_A_FOLDER[0]}")


def hub_file(hub_id: str, files: tuple[str, ...] = ON_THE_HUB) -> Path:
    """The first of these files of a model of the Hugging Face hub: from its cache, else fetched.

    hub_id: as timm/resnet18.tv_in1k. Raises what the hub's client raises where none is cached or within reach; after
    a single try, since a download tries six times, for 24 seconds.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    for name in files:
        if isinstance(cached := try_to_load_from_cache(hub_id, name), str):
            return Path(cached)
    for name in files:
        try:
            get_hf_file_metadata(hf_hub_url(hub_id, name), timeout=HUB_TIMEOUT_SECONDS)
            return Path(hf_hub_download(hub_id, name))
        except EntryNotFoundError as error:
            missing = error
    raise missing


def torchvision_state(published: WeightsEnum) -> dict[str, Tensor]:
    """The tensors of weights that torchvision publishes: from torch's cache, else fetched.

    Raises OSError, HTTPException or RuntimeError where they cannot be had. The server is asked first, since torch waits
    without end for one that does not answer.
    """
    if not (Path(torch.hub.get_dir()) / "checkpoints" / published.url.rsplit("/", 1)[-1]).is_file():
        request = urllib.request.Request(published.url, method="HEAD")
        urllib.request.urlopen(request, timeout=HUB_TIMEOUT_SECONDS).close()
    return published.get_state_dict(progress=False, check_hash=True)


def prefix_of(state: Iterable[str], module: nn.Module) -> str:
    """What stands before a module's names in those of a file: `module.` of DDP, `backbone.` of a whole model, often "".

    The one under which most of the module's parameters are found.
    """
    state, names = set(state), [name for name, _ in module.named_parameters()]
    keys = sorted(state, key=len)
    found = [key.removesuffix(name) for name in names[:1] for key in keys if key.endswith(name)]
    prefixes = ["", *(prefix for prefix in found if prefix.endswith("."))]
    return max(prefixes, key=lambda prefix: sum(prefix + name in state for name in names))


def load_backbone(backbone: nn.Module, state: dict[str, Tensor], origin: str) -> None:
    """Load a backbone's own state, or a whole model's; a classifier's last layers in it are left out.

    Names of other releases and positions of frames of another size become the model's own where timm knows how.
    Raises SettingsError where it does not fit.
    """
    prefix = prefix_of(state, backbone)
    given = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    # by this name, timm's modules have what translates the files of their models
    translate = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
    known = backbone.state_dict().keys()
    try:
        own = translate(dict(given), backbone) if translate else given
        own = {key: value for key, value in own.items() if key in known or not key.startswith(HEADS)}
        missing, unexpected = backbone.load_state_dict(own, strict=False)
    except Exception as error:  # tensors of other shapes, or what translation stumbles over
        example = next(iter(given), "")
        raise SettingsError(
            f"model.weights: {origin} does not fit this backbone ({' '.join(str(error).split())[:300]}; it holds "
            f"{len(given)} tensors, for example {example})"
        ) from error
    missing = [name for name in missing if name not in PIXELS]
    if missing or unexpected:
        examples = ", ".join([f"without {name}" for name in missing[:1]] + [f"with {name}" for name in unexpected[:1]])
        raise SettingsError(
            f"model.weights: {origin} does not fit this backbone ({len(missing)} tensors missing, "
            f"{len(unexpected)} unknown; for example {examples})"
        )


def load_parts(model: nn.Module, path: Path) -> str:
    """Load into a model, beside its backbone, the parts that a file holds in the same shapes; where weights come from.

    The words name what was taken and what is new. Raises SettingsError as `read_weights` does.
    """
    state, own = read_weights(path), model.state_dict()
    prefix = prefix_of(state, model)
    fitting = {name for name in own if prefix + name in state and state[prefix + name].shape == own[name].shape}
    parts = {name.partition(".")[0] for name in own}
    new = {name.partition(".")[0] for name in own.keys() - fitting} - {"backbone"}  # which is loaded already
    taken = [name for name in fitting if name.partition(".")[0] in parts - new - {"backbone"}]
    model.load_state_dict({name: state[prefix + name] for name in taken}, strict=False)
    origin = f"{path} (the whole model; its head by the classes' numbers)"
    if new:
        origin = f"{path} ({', '.join(sorted(parts - new))}; new: {', '.join(sorted(new))})"
    logger.info(f"weights: {origin}")
    return origin
