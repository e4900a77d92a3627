"""Evaluation of a model: every clip of a loader once, over all ranks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from trainer.data.batches import Batch, KeptBatches
from trainer.data.loader import ClipLoader
from trainer.devices.distributed import Group
from trainer.devices.memory import in_parts
from trainer.evaluation.predictions import Predictions
from trainer.tasks.base import Loss, Task

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True)
class Learned:
    """What is learned, and how far from it predictions are."""

    task: Task
    loss: Loss
    labels: np.ndarray  # of each clip, by its number


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    loader: ClipLoader | KeptBatches,
    learned: Learned,
    dtype: torch.dtype,
    group: Group,
    parts: int = 1,
    between_batches: Callable[[], object] = lambda: None,
) -> Predictions:
    """Every clip of the loader once, over all ranks, in plan order; a batch goes through the model in `parts`.

    On one device in more parts where memory runs out. between_batches: may end it by raising, on all ranks together.
    """
    model.eval()

    def outputs_of(batch: Batch, chosen: slice) -> Tensor:
        part = batch.part(chosen)
        labels = torch.from_numpy(learned.labels[part.numbers]).to(group.device, non_blocking=True)
        return model(*learned.task.evaluation_inputs(part, labels, np.searchsorted(loader.numbers, part.numbers)))

    def one_pass(parts: int) -> tuple[np.ndarray, np.ndarray]:
        """The numbers and the outputs of this rank's clips."""
        numbers, masks, outputs = [], [], []
        for batch in loader.batches(epoch=0):
            if numbers:
                between_batches()
            with autocast(group.device, dtype):
                pieces = np.array_split(np.arange(len(batch.mask)), min(parts, len(batch.mask)))
                out = torch.cat([outputs_of(batch, slice(piece[0], piece[-1] + 1)) for piece in pieces])
            numbers.append(batch.numbers)
            masks.append(batch.mask)
            outputs.append(out.float())  # on the device: to take it from there would make the CPU wait for the GPU
        counts = np.concatenate(masks)
        return np.concatenate(numbers)[counts], torch.cat(outputs).cpu().numpy()[counts]

    found = in_parts(one_pass, parts, most=loader.batch_size if group.world == 1 else parts)
    numbers, outputs = map(group.gather, found)
    order = np.argsort(numbers)
    numbers, outputs = numbers[order], outputs[order]
    labels = learned.labels[numbers]
    counts = torch.from_numpy(learned.task.counted(labels, np.ones(len(labels), bool))).to(group.device)
    losses = learned.loss(torch.from_numpy(outputs).to(group.device), torch.from_numpy(labels).to(group.device))
    means = (losses.double() * counts).sum(0) / counts.sum(0).clamp(min=1)
    return Predictions(numbers, labels, outputs, float(means.sum()))


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager:
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def choose_dtype(amp: str, device: torch.device) -> torch.dtype:
    """The type to compute in: bfloat16 on GPUs that have it (capability 8.0), float16 on older ones, else float32."""
    if amp != "auto":
        return DTYPES[amp]
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
