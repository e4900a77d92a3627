"""AdamW and the learning rate's schedule."""

from __future__ import annotations

import math

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from trainer.settings import OptimizerSettings, SchedulerSettings


def build_optimizer(model: nn.Module, settings: OptimizerSettings) -> AdamW:
    """Weight decay on matrices and kernels only, not on norms and biases."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=settings.lr)


class Schedule:
    """One face for schedules that move every step and those that move every epoch."""

    def __init__(
        self, optimizer: Optimizer, settings: SchedulerSettings, epochs: int, steps_per_epoch: int, maximise: bool
    ) -> None:
        self.scheduler = None
        if settings.name == "plateau":
            mode = "max" if maximise else "min"
            self.scheduler = ReduceLROnPlateau(optimizer, mode, settings.factor, settings.patience)
        elif settings.name == "cosine":
            warmup = round(settings.warmup_epochs * steps_per_epoch)
            self.scheduler = LambdaLR(optimizer, cosine_with_warmup(warmup, epochs * steps_per_epoch))

    def after_step(self) -> None:
        if isinstance(self.scheduler, LambdaLR):
            self.scheduler.step()

    def after_epoch(self, value: float) -> None:
        """`value`: the validation metric that the best model is chosen by."""
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(value)

    def state_dict(self) -> dict:
        return self.scheduler.state_dict() if self.scheduler else {}

    def load_state_dict(self, state: dict) -> None:
        if self.scheduler:
            self.scheduler.load_state_dict(state)


def cosine_with_warmup(warmup_steps: int, total_steps: int):
    """step → factor of the learning rate: linear from 0 to 1, then half a cosine down to 0."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return factor
