"""The optimizer, AdamW, and the schedule of its learning rate."""

from __future__ import annotations

import math

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from trainer.config.settings import OptimizerSettings, SchedulerSettings
from trainer.models.stages import backbone_of, stage_numbers, undecayed_parameters


def build_optimizer(model: nn.Module, settings: OptimizerSettings) -> AdamW:
    """AdamW with weight decay on matrices and kernels, not on norms, biases, positions; the head's groups come first.

    With layer_decay, each stage of the backbone learns at a fraction of the rate of the stage after it (Howard and
    Ruder, "Universal language model fine-tuning for text classification", 2018). fused: the one form of AdamW that
    leaves a step out where a flag on the device says so (`found_inf`). Raises SettingsError where the model has no
    backbone to slow down.
    """
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    depths = dict.fromkeys(parameters.values(), 0)  # stages below the head
    if settings.layer_decay < 1:
        backbone = backbone_of(model, "optimizer.layer_decay")
        stages = stage_numbers(backbone)
        top = 1 + max(stages.values())
        depths |= {parameter: top - stages[name] for name, parameter in backbone.named_parameters()}
    undecayed, groups = undecayed_parameters(model), []
    for depth in sorted(set(depths.values())):
        chosen = [parameter for parameter in parameters.values() if depths[parameter] == depth]
        lr = settings.lr * settings.layer_decay**depth
        decay = {"lr": lr, "weight_decay": settings.weight_decay, "params": [p for p in chosen if p not in undecayed]}
        groups += [decay, {"lr": lr, "weight_decay": 0.0, "params": [p for p in chosen if p in undecayed]}]
    return AdamW([group for group in groups if group["params"]], lr=settings.lr, fused=True)


class Schedule:
    """The schedule of the learning rate, whether it moves every step or every epoch."""

    def __init__(
        self, optimizer: Optimizer, settings: SchedulerSettings, epochs: int, steps_per_epoch: int, maximise: bool
    ) -> None:
        self.scheduler = None
        if settings.name == "plateau":
            mode = "max" if maximise else "min"
            self.scheduler = ReduceLROnPlateau(optimizer, mode, settings.factor, settings.patience, threshold=0)
        elif settings.name == "cosine":
            warmup = round(settings.warmup_epochs * steps_per_epoch)
            self.scheduler = LambdaLR(optimizer, cosine_with_warmup(warmup, epochs * steps_per_epoch))
        elif settings.warmup_steps:
            self.scheduler = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / settings.warmup_steps))

    def after_step(self) -> None:
        if isinstance(self.scheduler, LambdaLR):
            self.scheduler.step()

    def after_epoch(self, value: float) -> None:
        """Move the rate after an epoch; value: the validation metric that the best model is chosen by."""
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(value)

    def state_dict(self) -> dict:
        return self.scheduler.state_dict() if self.scheduler else {}

    def load_state_dict(self, state: dict) -> None:
        if self.scheduler:
            self.scheduler.load_state_dict(state)


def cosine_with_warmup(warmup_steps: int, total_steps: int):
    """The factor of the learning rate by step: linear from 0 to 1, then half a cosine down to 0."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return factor
