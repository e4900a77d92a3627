"""The stages of a backbone, from the pixels up: they are frozen, unfrozen and slowed down as a whole."""

from __future__ import annotations

from torch import nn

from trainer.errors import SettingsError


def backbone_of(model: nn.Module, setting: str) -> nn.Module:
    """The model's frame encoder. Raises SettingsError, naming the setting that needs one, where it has none."""
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module):
        raise SettingsError(f"{setting}: {type(model).__name__} has no part called backbone; leave the setting out")
    return backbone


def stage_numbers(backbone: nn.Module) -> dict[str, int]:
    """The stage of every module and parameter by name, from 0 (the stem): timm's groups, as its `group_matcher` says.

    Without such a method all are stage 0. A module is of its last parameter's stage, one without any of that around it.
    """
    parameters = [name for name, _ in backbone.named_parameters()]
    stages = dict.fromkeys(parameters, 0)
    if hasattr(backbone, "group_matcher"):
        from timm.models import group_parameters

        stages = group_parameters(backbone, backbone.group_matcher(coarse=True), reverse=True)
    modules = {"": max(stages.values(), default=0)}
    for name in parameters:
        path = name.split(".")
        for end in range(1, len(path)):
            around = ".".join(path[:end])
            modules[around] = max(modules.get(around, 0), stages[name])
    for name, _ in backbone.named_modules():  # parents come first
        modules.setdefault(name, modules[name.rpartition(".")[0]])
    return modules | stages


def norm_parameters(backbone: nn.Module) -> set[nn.Parameter]:
    """Scales and shifts of the backbone's norm layers: torch's and timm's, of which there are a dozen, are named so."""
    norms = [module for module in backbone.modules() if "norm" in type(module).__name__.lower()]
    return {parameter for norm in norms for parameter in norm.parameters(recurse=False)}


def undecayed_parameters(model: nn.Module) -> set[nn.Parameter]:
    """Parameters that weight decay leaves alone: norms and biases, class tokens and positions.

    The latter two are those that `no_weight_decay` of the model or of its backbone names, as timm's models have it.
    """
    undecayed = {parameter for parameter in model.parameters() if parameter.ndim < 2}
    for part in (model, getattr(model, "backbone", None)):
        if hasattr(part, "no_weight_decay"):
            names = part.no_weight_decay()
            undecayed |= {parameter for name, parameter in part.named_parameters() if name in names}
    return undecayed
