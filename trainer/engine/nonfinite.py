"""The guard against gradients that are not finite: such steps are left out, on the device, and counted."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainer.errors import TrainerError

MOST_SKIPPED = 25  # steps in a row; float16's scaler needs up to 16 to come down from its first scale
CHECK_STEPS = 10  # between looks at the count: a look makes the CPU wait for the GPU


class StepGuard:
    """The guard around every step of one model: `keep` before it, then `step`, or `restore` where it broke off.

    Gradients are the same on all ranks once they are averaged, so all ranks leave out the same steps.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self._model, self._optimizer = model, optimizer
        # buffers that a forward pass in training changes, by type; their values before the step, one vector per type
        self._live: list[list[Tensor]] = []
        self._kept: list[Tensor] = []
        self._parameters = list(model.parameters())
        self.counts = torch.zeros(2, dtype=torch.int64, device=device)  # skipped steps: all, the last ones in a row
        self.norm = torch.zeros((), device=device)  # of the last step's gradients, before they were clipped

    def begin_epoch(self) -> None:
        """Note which buffers a step changes, once the modules are in the epoch's training mode."""
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for module in self._model.modules():
            for buffer in module.buffers(recurse=False) if module.training else ():
                by_type.setdefault(buffer.dtype, []).append(buffer)
        self._live = list(by_type.values())

    def keep(self) -> None:
        self._kept = [_flat(buffers) for buffers in self._live]

    def restore(self) -> None:
        """Forget what the step has done so far: its gradients and its part in the statistics."""
        for buffers, kept in zip(self._live, self._kept, strict=True):
            _fill(buffers, kept)
        self._optimizer.zero_grad(set_to_none=True)

    def step(self, clip_norm: float) -> Tensor:
        """Clip the gradients' norm (0: do not) and step, unless one is not finite; bool (): whether it stepped."""
        parameters = [parameter for parameter in self._parameters if parameter.grad is not None]
        self.norm = norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters])
        is_sound = norm.isfinite()
        if clip_norm > 0:
            nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
        self._optimizer.found_inf = (~is_sound).float()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        for buffers, kept in zip(self._live, self._kept, strict=True):
            _fill(buffers, torch.where(is_sound, _flat(buffers), kept))
        all_skipped, in_a_row = self.counts.unbind()
        self.counts = torch.stack((all_skipped + ~is_sound, (in_a_row + 1) * ~is_sound))
        return is_sound

    def in_a_row(self) -> int:
        """How many of the last steps were skipped; makes the CPU wait for the GPU."""
        return int(self.counts[1])

    def check(self, where: str) -> None:
        """Raises TrainerError after too many skipped steps in a row."""
        in_a_row = self.in_a_row()
        if in_a_row >= MOST_SKIPPED:
            raise TrainerError(
                f"{where}: the gradients of the last {in_a_row} steps were not finite, so none of them counted; lower "
                f"optimizer.lr, or use amp=float32; the newest checkpoint is from before them"
            )


def _flat(tensors: list[Tensor]) -> Tensor:
    """All values of tensors of one type in one vector: a step on a GPU is bound by its number of launches."""
    return torch.cat([tensor.flatten() for tensor in tensors])


def _fill(tensors: list[Tensor], values: Tensor) -> None:
    """The reverse of `_flat`, in place."""
    parts = values.split([tensor.numel() for tensor in tensors])
    torch._foreach_copy_(tensors, [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)])
