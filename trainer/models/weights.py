"""Weights from files: tensors by name, whoever has saved them, and the parts of a model that they fit."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor, nn

from trainer.errors import SettingsError
from trainer.torch_files import read_torch_file

WRAPPERS = ("state_dict", "model_state_dict", "model")  # under which Lightning, timm, runs and many scripts save them

logger = logging.getLogger(__name__)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors, by name, of a .safetensors or torch file, or of the best model in a run's folder.

    Raises SettingsError, one line, for what is no such file.
    """
    if path.is_dir():
        path = path / "models" / "best_model.pth"
    if not path.is_file():
        raise SettingsError(
            f"model.weights: {path} is not a file; use auto, imagenet, none, a weights file or a run's folder"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = read_torch_file(path)
        state = next((state[name] for name in WRAPPERS if isinstance(state.get(name), dict)), state)
        return {name: value for name, value in state.items() if isinstance(value, Tensor)}
    except Exception as error:  # the readers raise a dozen types for damaged files
        raise SettingsError(f"model.weights: {path} is not a readable weights file ({error})") from error


def prefix_of(state: Iterable[str], names: list[str]) -> str:
    """What stands before a module's names in those of a file: `module.` of DDP, `backbone.` of a whole model, often "".

    The one under which most of `names` are found. names: of the module's tensors.
    """
    state = set(state)
    found = [key.removesuffix(names[0]) for key in sorted(state, key=len) if key.endswith(names[0])]
    prefixes = ["", *(prefix for prefix in found if prefix.endswith("."))]
    return max(prefixes, key=lambda prefix: sum(prefix + name in state for name in names))


def load_parts(model: nn.Module, path: Path) -> str:
    """Load into a model, beside its backbone, the parts that a file holds in the same shapes; where weights come from.

    The words name what was taken and what is new. Raises SettingsError as `read_weights` does.
    """
    state, own = read_weights(path), model.state_dict()
    prefix = prefix_of(state, list(own))
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
