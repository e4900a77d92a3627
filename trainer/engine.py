"""One epoch of training, one pass of evaluation. Shapes: B clips, T frames, S pixels, K classes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from trainer.augment import augment, normalise, to_float
from trainer.distributed import Group
from trainer.loader import Batch, ClipLoader
from trainer.losses import Loss
from trainer.optimizers import Schedule
from trainer.settings import Settings

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@dataclass
class Engine:
    """What a training step needs."""

    model: nn.Module  # wrapped for the group where there are several processes
    loss: Loss
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler
    dtype: torch.dtype
    settings: Settings
    group: Group
    ema: AveragedModel | None = None  # of the weights and the batch norm statistics

    def train_epoch(
        self, loader: ClipLoader, epoch: int, first_step: int, sums: Tensor, after_step: Callable[[int], bool]
    ) -> bool:
        """Train on the epoch's batches from `first_step` on; True if `after_step(step)` ended it by saying so.

        sums: float64 (3,) on the device, added to: loss, right predictions, clips.
        """
        self.model.train()
        for step, batch in enumerate(loader.batches(epoch, first_step), first_step):
            seed_step(self.settings.seed, epoch, step, self.group.rank)
            self.train_step(batch, epoch, sums)
            if after_step(step):
                return True
        return False

    def train_step(self, batch: Batch, epoch: int, sums: Tensor) -> None:
        """One optimizer step over the global batch, in `accumulate` parts; padding weighs nothing."""
        settings = self.settings
        mask = torch.from_numpy(batch.mask).to(self.group.device, torch.float32, non_blocking=True)
        share = self._share(batch)
        parts = np.array_split(np.arange(len(mask)), min(settings.accumulate, len(mask)))
        for part in parts:
            # augment
            chosen = slice(part[0], part[-1] + 1)
            clips = to_float(batch.clips[chosen])
            clips = augment(clips, settings.augment, settings.seed, epoch, batch.numbers[chosen])
            # forward
            with self.autocast():
                logits = self.model(normalise(clips))
            losses = self.loss(logits, batch.labels[chosen]) * mask[chosen]
            # backward; ranks tell each other their gradients with the last part
            with nullcontext() if part is parts[-1] or self.group.world == 1 else self.model.no_sync():
                self.scaler.scale(losses.sum() / share).backward()
            # count, on the device: reading a value here would make the CPU wait for the GPU
            right = (logits.argmax(1) == batch.labels[chosen]) * mask[chosen]
            sums += torch.stack([losses.detach().double().sum(), right.double().sum(), mask[chosen].double().sum()])
        # step
        self.scaler.unscale_(self.optimizer)
        if settings.optimizer.clip_norm > 0:
            nn.utils.clip_grad_norm_(self.model.parameters(), settings.optimizer.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.after_step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update_parameters(self.model)

    def evaluate(self, loader: ClipLoader) -> Predictions:
        """Every clip of the loader once, in plan order; by the averaged weights where there are any."""
        model = self.model if self.ema is None else self.ema.module
        return evaluate(model, loader, self.loss, self.dtype, self.group)

    def autocast(self) -> AbstractContextManager:
        return autocast(self.group.device, self.dtype)

    def _share(self, batch: Batch) -> float:
        """Clips that count in the global batch, per rank: gradients are averaged over the ranks."""
        count = torch.tensor(float(batch.mask.sum()), device=self.group.device)
        if self.group.world > 1:
            torch.distributed.all_reduce(count)
            return count / self.group.world
        return count


@dataclass(frozen=True)
class Predictions:
    """Over the clips of one split, in plan order: N clips, K classes."""

    numbers: np.ndarray  # int64 (N,)
    labels: np.ndarray  # int64 (N,)
    logits: np.ndarray  # float32 (N, K)
    loss: float  # mean over the clips


@torch.inference_mode()
def evaluate(model: nn.Module, loader: ClipLoader, loss: Loss, dtype: torch.dtype, group: Group) -> Predictions:
    """Every clip of the loader once, over all ranks, in plan order."""
    model.eval()
    numbers, logits = [], []
    for batch in loader.batches(epoch=0):
        with autocast(group.device, dtype):
            out = model(normalise(to_float(batch.clips)))
        numbers.append(batch.numbers[batch.mask])
        logits.append(out.float()[torch.from_numpy(batch.mask).to(out.device)])
    numbers = group.gather(np.concatenate(numbers))
    logits = group.gather(torch.cat(logits).cpu().numpy())
    order = np.argsort(numbers)
    labels = loader.shards.samples["label"][numbers[order]].astype(np.int64)
    losses = loss(torch.from_numpy(logits[order]).to(group.device), torch.from_numpy(labels).to(group.device))
    return Predictions(numbers[order], labels, logits[order], float(losses.double().mean()))


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager:
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def seed_step(seed: int, epoch: int, step: int, rank: int) -> None:
    """Dropout's draws depend on the position alone, so that resuming needs no random state."""
    torch.manual_seed(int(np.random.SeedSequence([seed, epoch, step, rank]).generate_state(1, np.uint64)[0]))


def choose_dtype(amp: str, device: torch.device) -> torch.dtype:
    """bfloat16 where the GPU computes in it (capability 8.0), float16 on older ones, float32 on a CPU."""
    if amp != "auto":
        return DTYPES[amp]
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
