"""The training step, an epoch of steps: the same for every task.

Shapes: B clips, T frames, S pixels, K outputs of the model per clip.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.profiler import record_function

from shardify.machine import is_out_of_memory
from trainer.config.settings import Settings, is_custom
from trainer.data.batches import Batch
from trainer.data.loader import ClipLoader
from trainer.devices.distributed import Group
from trainer.engine.ema import MovingAverage
from trainer.engine.evaluate import Learned, autocast, evaluate
from trainer.engine.freezing import Freezing
from trainer.engine.nonfinite import CHECK_STEPS, StepGuard
from trainer.engine.optimizer import Schedule
from trainer.engine.sam import at_worst_nearby
from trainer.errors import TrainerError
from trainer.evaluation.predictions import Predictions
from trainer.models.gradient_checkpointing import statistics_kept
from trainer.tasks.base import Loss, Task
from trainer.transforms.augment import draw, is_self_blended

logger = logging.getLogger(__name__)


@dataclass
class Engine:
    """The model and all that a training step needs.

    sums: the task's named sums over the clips of an epoch, float64 () each, on the device.
    """

    task: Task
    model: nn.Module
    loss: Loss
    labels: np.ndarray  # what is learned of each clip, by its number
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler
    dtype: torch.dtype
    settings: Settings
    group: Group
    freezing: Freezing
    ema: MovingAverage | None = None
    real_and_fake: tuple[int, int] | None = None  # their labels, where real clips become pseudo-fakes
    accumulate: int = field(init=False)  # parts of a step; more than was set once memory has run out
    guard: StepGuard = field(init=False)
    learner: nn.Module | None = field(init=False, default=None)  # the model, wrapped where there are several processes

    def __post_init__(self) -> None:
        self.accumulate = self.settings.accumulate
        self.guard = StepGuard(self.model, self.optimizer, self.group.device)

    def train_epoch(
        self,
        loader: ClipLoader,
        epoch: int,
        first_step: int,
        sums: dict[str, Tensor],
        after_step: Callable[[int], bool],
    ) -> bool:
        """Train on the epoch's batches from `first_step` on; True if `after_step(step)` was True, which ends it.

        sums: added to. Raises TrainerError when too many steps in a row had to be skipped, or memory runs out for good.
        """
        self.begin_epoch(epoch)
        for step, batch in enumerate(loader.batches(epoch, first_step), first_step):
            self.train_step(batch, epoch, step, sums)
            if (step + 1) % CHECK_STEPS == 0:
                self.guard.check(self.settings.place(epoch, step + 1))
            if after_step(step):
                return True
        self.guard.check(self.settings.place(epoch))
        return False

    def begin_epoch(self, epoch: int) -> None:
        """Put the model into training mode, with what is frozen in this epoch."""
        changed = self.freezing.begin_epoch(epoch)
        self.guard.begin_epoch()
        if self.group.world == 1:
            self.learner = self.model
        elif self.learner is None or changed:  # it notes at the start which parameters learn
            self.learner = None  # first, so that the old one's hooks go
            devices = [self.group.device] if self.group.device.type == "cuda" else None
            self.learner = nn.parallel.DistributedDataParallel(
                self.model, device_ids=devices, find_unused_parameters=is_custom(self.settings.model)
            )  # a custom model may leave parameters out, for some clips or for all; to look for them takes time

    def new_sums(self, start: dict[str, float] | None = None) -> dict[str, Tensor]:
        """The sums of an epoch that begins, or of one that has come to `start`."""
        parts = self.task.loss_parts
        names = (*(f"loss{part}" for part in parts), *self.task.train_metrics, *(f"clips{part}" for part in parts))
        values = torch.zeros(len(names), dtype=torch.float64, device=self.group.device)
        if start:
            values = torch.tensor([start[name] for name in names], dtype=torch.float64, device=self.group.device)
        return dict(zip(names, values.unbind(), strict=True))

    def total(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """The sums over all ranks, each of which must call it."""
        own = torch.stack(list(sums.values())).cpu().numpy()
        return dict(zip(sums, np.sum(self.group.gather(own[None]), axis=0).tolist(), strict=True))

    def train_step(self, batch: Batch, epoch: int, step: int, sums: dict[str, Tensor]) -> None:
        """One optimizer step over the global batch; where memory runs out, the same step in twice as many parts."""
        self.guard.keep()
        while (added := self._gradients_or_none(batch, epoch, step)) is None:
            self._make_parts_smaller(len(batch.mask), self.settings.place(epoch, step + 1))
        self.update(added, sums)

    def step_gradients(self, batch: Batch, epoch: int, step: int) -> dict[str, Tensor]:
        """`add_gradients` with the step's draws of dropout; with sam_rho a second time, by the same draws.

        Raises torch.OutOfMemoryError; the weights are then as before.
        """
        seed_step(self.settings.seed, epoch, step, self.group.rank)
        added = self.add_gradients(batch, epoch)
        if self.settings.optimizer.sam_rho:
            with at_worst_nearby(self.model, self.settings.optimizer.sam_rho):
                seed_step(self.settings.seed, epoch, step, self.group.rank)
                self.add_gradients(batch, epoch)
        return added

    def add_gradients(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """Forward and backward over the batch, in `accumulate` parts; padding weighs nothing.

        Returns what the step adds to the epoch's sums. Raises torch.OutOfMemoryError.
        """
        draws = draw(self.settings.seed, epoch, batch.seeds)
        counted = self.task.counted(self.labels[batch.numbers], batch.mask)
        mask, counts = (
            torch.from_numpy(values).to(self.group.device, torch.float32, non_blocking=True)
            for values in (batch.mask, counted)
        )
        (labels, blended), share = self._labels(batch, draws), self._share(counted)
        added = self.new_sums()
        parts = np.array_split(np.arange(len(mask)), min(self.accumulate, len(mask)))
        for part in parts:
            # augment
            chosen = slice(part[0], part[-1] + 1)
            with record_function("augment"):
                drawn = epoch, draws[chosen], blended[chosen]
                inputs = self.task.training_inputs(batch.part(chosen), labels[chosen], *drawn)
            # ranks exchange their gradients with the last part
            is_last = part is parts[-1] or self.group.world == 1
            with nullcontext() if is_last else self.learner.no_sync():
                with record_function("forward"), self.autocast():
                    outputs = self.learner(*inputs)
                losses = self.loss(outputs, labels[chosen]) * counts[chosen]
                with record_function("backward"), self._recomputing():
                    self.scaler.scale((losses.sum(0) / share).sum()).backward()
            # count, on the device: reading a value here would make the CPU wait for the GPU
            values = self.task.clip_values(outputs.detach(), labels[chosen])
            values = {name: value * mask[chosen] for name, value in values.items()}
            columns = zip(self.task.loss_parts, by_part(losses.detach()), by_part(counts[chosen]), strict=True)
            for name, loss, count in columns:
                values |= {f"loss{name}": loss, f"clips{name}": count}
            torch._foreach_add_(list(added.values()), [values[name].double().sum() for name in added])
        return added

    def update(self, added: dict[str, Tensor], sums: dict[str, Tensor]) -> None:
        """Move the weights by the gradients, unless these are not finite; then nothing changes, the sums included."""
        self.scaler.unscale_(self.optimizer)
        values = torch.stack(list(added.values()))
        is_sound = self.guard.step(self.settings.optimizer.clip_norm) & values.isfinite().all()
        torch._foreach_add_([sums[name] for name in added], list(torch.where(is_sound, values, 0.0).unbind()))
        self.scaler.update()
        self.schedule.after_step()
        if self.ema is not None:
            self.ema.update()

    @property
    def evaluated(self) -> nn.Module:
        """The model with the averaged weights, where there are any."""
        return self.model if self.ema is None else self.ema.module

    def evaluate(self, loader: ClipLoader, between_batches: Callable[[], object] = lambda: None) -> Predictions:
        """Every clip of the loader once, in plan order, by the `evaluated` model; between_batches may end it."""
        model = self.evaluated
        self.group.broadcast(model.buffers())  # each rank has statistics of its own clips; rank 0's are saved
        learned = Learned(self.task, self.loss, self.labels)
        return evaluate(model, loader, learned, self.dtype, self.group, self.accumulate, between_batches)

    def autocast(self) -> AbstractContextManager:
        return autocast(self.group.device, self.dtype)

    def _recomputing(self) -> AbstractContextManager:
        """Around a backward pass: what gradient checkpointing computes again moves no statistics."""
        return statistics_kept(self.model) if self.settings.model.gradient_checkpointing else nullcontext()

    def _gradients_or_none(self, batch: Batch, epoch: int, step: int) -> dict[str, Tensor] | None:
        """None where memory has run out: the caller retries where the error no longer holds the tensors."""
        try:
            return self.step_gradients(batch, epoch, step)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return None

    def _labels(self, batch: Batch, draws: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """What is learned of the clips, (B,) on the device, and which real ones become pseudo-fakes, bool (B,).

        Floats are in the model's own precision: int64 or float32.
        """
        labels, blended = self.labels[batch.numbers], np.zeros(len(draws), bool)
        if self.real_and_fake is not None:
            real, fake = self.real_and_fake
            blended = is_self_blended(draws, self.settings.augment) & (labels == real)
            labels = np.where(blended, fake, labels)
        dtype = torch.float32 if labels.dtype.kind == "f" else torch.int64
        return torch.from_numpy(labels).to(self.group.device, dtype, non_blocking=True), blended

    def _make_parts_smaller(self, num_clips: int, where: str) -> None:
        """Halve the clips that go through the model at once. Raises TrainerError where that cannot be done."""
        if self.group.world > 1:
            raise TrainerError(
                f"{where}: rank {self.group.rank} is out of memory; start again with --set "
                f"accumulate={2 * self.accumulate} (with --out, in another folder), or use a smaller data.size"
            )
        if self.accumulate >= num_clips:
            raise TrainerError(
                f"{where}: out of memory with a single clip at a time; use a smaller data.size, data.frames or "
                f"model.backbone, or model.gradient_checkpointing=true"
            )
        self.guard.restore()
        self.accumulate *= 2
        if self.group.device.type == "cuda":
            torch.cuda.empty_cache()
        logger.warning(
            f"{where}: out of memory; from here on a step's clips go through the model in {self.accumulate} "
            f"parts (accumulate={self.accumulate}), {math.ceil(num_clips / self.accumulate)} clips at a time"
        )

    def _share(self, counted: np.ndarray) -> Tensor:
        """Clips of the global batch that count in each loss, () or (H,), per rank: ranks average their gradients.

        counted: of this rank, as of the task. At least one, so that a loss without any is 0.
        """
        total = torch.from_numpy(counted.sum(0, dtype=np.float32, keepdims=True)).squeeze(0)
        if self.group.world > 1:
            total = total.to(self.group.device)
            torch.distributed.all_reduce(total)
        elif total.ndim:  # one number may stay: dividing by it does not make the GPU wait
            total = total.to(self.group.device, non_blocking=True)
        return total.clamp(min=1) / self.group.world


def by_part(values: Tensor) -> tuple[Tensor, ...]:
    """The columns (B,) of what there is of each loss, (B, H), or (B,) where there is one."""
    return values.reshape(len(values), -1).unbind(1)


def seed_step(seed: int, epoch: int, step: int, rank: int) -> None:
    """Seed dropout's draws by the position alone, so that resuming needs no random state."""
    torch.manual_seed(int(np.random.SeedSequence([seed, epoch, step, rank]).generate_state(1, np.uint64)[0]))
