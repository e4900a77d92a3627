"""The frozen parts of a model by epoch, and the batch norms that keep their statistics."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainer.config.settings import ModelSettings
from trainer.errors import SettingsError
from trainer.models.stages import backbone_of, norm_parameters, stage_numbers


class Freezing:
    """The effect of model.freeze, model.unfreeze_every and model.batch_norm on one model.

    A frozen stage of the backbone has no gradients and runs as in evaluation: batch norm by its running statistics,
    which stay as they are, and no dropout of layers. With all_but_norms the backbone runs as in training and only its
    norms learn (LayerNorm tuning, docs/models.md). Raises SettingsError where the model has no backbone or no norms.
    """

    def __init__(self, model: nn.Module, settings: ModelSettings) -> None:
        self._model, self._settings = model, settings
        self._modules: list[tuple[int, nn.Module]] = []  # with their stages
        self._parameters: list[tuple[int, nn.Parameter]] = []  # those that may learn
        self._num_stages = 0
        self._num_frozen = 0  # stages, from the pixels up
        if settings.freeze == "backbone":
            backbone = backbone_of(model, "model.freeze")
            stages = stage_numbers(backbone)
            self._modules = [(stages[name], module) for name, module in backbone.named_modules()]
            named = backbone.named_parameters()
            self._parameters = [(stages[name], parameter) for name, parameter in named if parameter.requires_grad]
            self._num_stages = 1 + max(stages.values())
        if settings.freeze == "all_but_norms":
            backbone = backbone_of(model, "model.freeze")
            norms = norm_parameters(backbone)
            if not norms:
                raise SettingsError(
                    "model.freeze is all_but_norms, but the backbone has no norms that learn; use backbone"
                )
            for parameter in backbone.parameters():
                parameter.requires_grad_(parameter.requires_grad and parameter in norms)

    def begin_epoch(self, epoch: int) -> bool:
        """Put the model into the epoch's training mode; True where other parameters learn than before."""
        self._model.train()
        if self._settings.batch_norm == "frozen":
            for module in getattr(self._model, "backbone", self._model).modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        frozen = self.num_frozen(epoch)
        for stage, module in self._modules:
            if stage < frozen:
                module.training = False  # of this module alone: those inside have stages of their own
        for stage, parameter in self._parameters:
            parameter.requires_grad_(stage >= frozen)
        changed, self._num_frozen = frozen != self._num_frozen, frozen
        return changed

    def num_frozen(self, epoch: int) -> int:
        """Stages that do not learn in an epoch, counted from the pixels up."""
        every = self._settings.unfreeze_every
        return max(0, self._num_stages - (epoch // every if every else 0))
