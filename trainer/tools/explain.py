"""What a run's best model attends to in some clips, moment by moment, as a page."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shardify.format.records import UNLABELLED
from shardify.storage.local import check_writable, write_atomically
from trainer.errors import TrainerError

if TYPE_CHECKING:
    from trainer.data.batches import Batch
    from trainer.evaluation.attention_page import Explained
    from trainer.saved_model import SavedModel
    from trainer.shards.shard_set import ShardSet
    from trainer.tasks.predicting import Prediction


@dataclass(frozen=True, kw_only=True)
class ExplainRequest:
    """What `trainer.explain` is asked for."""

    run: Path
    shards: tuple[Path, ...] = ()  # the data set; empty: what the run was trained on
    split: str = "test"
    clips: int = 8  # evenly spread over the split
    devices: str = "auto"
    model_class: str | None = None  # of a custom model, package.module:Class


def explain(request: ExplainRequest, path: Path) -> int:
    """Write the page to `path`, and return how many clips it shows.

    Raises TrainerError where the model attends to nothing that could be shown, FormatError for a damaged clip.
    """
    from trainer.data.loader import ClipLoader
    from trainer.devices.distributed import join_group, num_devices
    from trainer.evaluation.attention_page import attention_page
    from trainer.saved_model import load_saved
    from trainer.shards.mix import open_all
    from trainer.shards.shard_cache import cache_of_saved
    from trainer.tools.evaluate import check_fits
    from trainer.tools.scoring import folders_of

    check_writable(path)
    group = join_group(num_devices(request.devices) > 0)
    saved = load_saved(request.run, group.device, request.model_class)
    shards = open_all(
        folders_of(request.run, request.shards), saved.settings.data.sheet_frames, cache_of_saved(saved.settings.data)
    )
    shards = saved.task.match_classes(shards, saved.classes, {})
    check_fits(saved, shards, request.split)
    numbers = shards.numbers(request.split)
    chosen = numbers[np.linspace(0, len(numbers) - 1, min(request.clips, len(numbers)), dtype=int)]
    loader = ClipLoader(
        shards, request.split, len(chosen), numbers=chosen, shuffle=False, device=group.device,
        members=saved.task.read_members(shards),
    )  # fmt: skip
    with contextlib.closing(loader):
        explained = [clip for batch in loader.batches(0) for clip in _explain(saved, shards, batch)]
    title = f"{request.run.resolve().name}: where it looks and listens, {request.split}"
    write_atomically(path, attention_page(title, explained).encode())
    return len(explained)


def _explain(saved: SavedModel, shards: ShardSet, batch: Batch) -> list[Explained]:
    import torch

    from trainer.evaluation.attention_page import Explained
    from trainer.evaluation.predictions import source_rows
    from trainer.transforms.clips import normalise, to_float

    rows = source_rows(shards)
    with torch.inference_mode():
        inputs = saved.task.inputs(normalise(to_float(batch.clips, saved.frames, saved.size)), batch.others)
        outputs = saved.model(*inputs).float().cpu().numpy()
        attention = {name: each.cpu().numpy() for name, each in saved.task.attention(saved.model, inputs).items()}
    if not attention:
        raise TrainerError(f"its model, {saved.settings.model.name}, shows no attention; explain takes one that does")
    frames = batch.clips.permute(0, 1, 3, 4, 2).cpu().numpy()
    found = []
    for place in np.flatnonzero(batch.mask):
        number = int(batch.numbers[place])
        mel = shards.members["mel"].picture(batch.members["mel"][place].cpu().numpy()) if _hears(batch, place) else None
        said = saved.task.verdict(outputs[place : place + 1], saved.classes, None)
        verdicts = said.heads or {shards.heads[0].name: said}
        found.append(
            Explained(
                source=rows.get(number, {}).get("source", shards.key(number)),
                lines=_lines(shards, number, verdicts),
                frames=frames[place],
                mel=mel,
                attention={name: each[place] for name, each in attention.items()},
            )
        )
    return found


def _hears(batch: Batch, place: int) -> bool:
    return "mel" in batch.members and bool(batch.members["mel_present"][place])


def _lines(shards: ShardSet, number: int, verdicts: Mapping[str, Prediction]) -> list[str]:
    """What is predicted of each head, and what it is."""
    lines = []
    for head in shards.heads:
        said, label = verdicts[head.name], int(shards.samples[head.field][number])
        if label == UNLABELLED:
            known = "without a label"
        else:
            known = "right" if head.classes[label] == said.class_name else f"it is {head.classes[label]}"
        lines.append(f"{head.name}: {said.class_name} ({said.confidence:.0%}), {known}")
    return lines
