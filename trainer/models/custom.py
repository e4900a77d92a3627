"""Custom models, which the settings or an option name as `package.module:Class`."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import traceback
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import nn

from shardify.errors import ShardifyError
from shardify.machine import is_out_of_memory
from trainer.config.settings import ModelSettings, is_custom
from trainer.errors import SettingsError
from trainer.models.precision import keep_recurrent_layers_in_float32


def with_named_class(settings: ModelSettings, named: str | None, origin: Path) -> ModelSettings:
    """A file's model settings with the custom class that the user has `named`: no file chooses which code is run.

    Importing a module and calling what is in it runs it, wherever Python finds it. Raises SettingsError where the
    file's model is of a custom class and none is named, and the other way round.
    """
    if is_custom(settings) and not named:
        raise SettingsError(
            f"{origin}: its model is the custom class {settings.name}, whose code is only run if you name it; if "
            f"you trust it, pass --model {settings.name}, in the folder of its module or with that folder on PYTHONPATH"
        )
    if named and not is_custom(settings):
        raise SettingsError(f"{origin}: its model is {settings.name}, no custom class; leave --model out")
    return dataclasses.replace(settings, name=named) if named else settings


def build_custom(settings: ModelSettings, num_classes: int) -> nn.Module:
    """The model of a class that the user has named, made with `num_classes` outputs. Raises SettingsError."""
    model = make_named(settings.name, (num_classes,), settings.options, ("model.name", "model.options"))
    keep_recurrent_layers_in_float32(model)
    model.register_forward_hook(partial(_check_output, settings.name, num_classes))
    return model


def make_named(path: str, arguments: tuple, options: Mapping, asked_by: tuple[str, str]) -> nn.Module:
    """A module of the class `package.module:Class`, called with these arguments and options. Raises SettingsError.

    asked_by: what names the class and what gives the options, for messages.
    """
    named_by, options_by = asked_by
    module, _, name = path.partition(":")
    try:
        make = getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever its module's own lines raise
        remedy = ""
        if isinstance(error, ModuleNotFoundError) and error.name in (module, module.partition(".")[0]):
            remedy = f"; start in the folder where {error.name} lies, or put that folder on PYTHONPATH"
        raise SettingsError(f"{named_by}: {path} cannot be imported ({reason(error)}){remedy}") from error
    try:
        inspect.signature(make).bind(*arguments, **options)
    except TypeError as error:
        raise SettingsError(f"{named_by}: {path} does not take these {options_by} ({error})") from error
    try:
        model = make(*arguments, **options)
    except Exception as error:
        if isinstance(error, ShardifyError) or is_out_of_memory(error):
            raise
        raise SettingsError(f"{named_by}: {path} cannot be made ({reason(error)})") from error
    if not isinstance(model, nn.Module):
        raise SettingsError(f"{named_by}: {path} gives a {type(model).__name__}; it must be a torch.nn.Module")
    return model


def _check_output(name: str, num_classes: int, model: nn.Module, inputs: tuple, output: object) -> None:
    """Check the output of every call, which costs nothing; the loss would report something else."""
    expected = (inputs[0].shape[0], num_classes)  # len() would fix it in an exported program
    if isinstance(output, torch.Tensor) and output.shape == expected and output.is_floating_point():
        return
    is_tensor = isinstance(output, torch.Tensor)
    given = f"a {output.dtype} of shape {tuple(output.shape)}" if is_tensor else f"a {type(output).__name__}"
    raise SettingsError(
        f"model.name: {name} maps clips of shape {tuple(inputs[0].shape)} to {given}; it must give logits, floats of "
        f"shape {expected}: one per clip and class, in regression one per clip"
    )


def reason(error: Exception) -> str:
    """The error in one line, with the line of code that raised it."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}: {text}"
