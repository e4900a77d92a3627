"""Quantisation of an exported ONNX model: int8 weights and activations, and what they cost on validation."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shardify.storage.local import rename
from shardify.text import human_bytes, table_lines

if TYPE_CHECKING:
    from trainer.data.batches import Batch
    from trainer.data.loader import ClipLoader
    from trainer.evaluation.metrics import Measures
    from trainer.saved_model import SavedModel

OPERATORS = ["Conv", "MatMul", "Gemm"]  # that are computed in int8; the others stay as they are
CALIBRATION_CLIPS = 128  # of validation, from which the range of every activation is taken
TIMED_CLIPS = 30
INT8 = "-int8"  # behind the stem of the model's file


def quantise(run: Path, path: Path, shards: tuple[Path, ...], model_class: str | None = None) -> list[str]:
    """Write the exported model at `path` once more with int8 operators, beside it; lines that compare the two.

    Static quantisation by onnxruntime: each weight has a scale per output channel, each activation the range that it
    has on clips of the run's validation split. LSTMs, and what lies between int8 operators, stay float32. shards: the
    folders that the run was trained on; empty: as the run says. Raises TrainerError, FormatError.
    """
    import torch

    from trainer.saved_model import load_saved
    from trainer.shards.mix import open_all
    from trainer.shards.shard_cache import cache_of_saved
    from trainer.tools.evaluate import check_fits
    from trainer.tools.scoring import folders_of

    saved = load_saved(run, torch.device("cpu"), model_class)
    opened = open_all(folders_of(run, shards), saved.settings.data.sheet_frames, cache_of_saved(saved.settings.data))
    check_fits(saved, opened, "train")
    opened = saved.task.match_classes(opened, saved.classes, {})
    loader = _validation(saved, opened)
    smaller = path.with_name(f"{path.stem}{INT8}{path.suffix}")
    try:
        _write_int8(path, smaller, loader)
        columns = {file.name: _describe(saved, file, loader) for file in (path, smaller)}
    finally:
        loader.close()
    rows = [["", *columns], *([name, *(found[name] for found in columns.values())] for name in columns[path.name])]
    return [
        f"{smaller}: {', '.join(OPERATORS)} in int8; on {len(loader.numbers)} clips of validation:",
        *table_lines(rows),
    ]


def _validation(saved: SavedModel, shards) -> ClipLoader:
    """The clips of validation as in training, where the shards have none those held out of train."""
    from trainer.data.loader import ClipLoader
    from trainer.shards.splits import choose_splits

    data = saved.settings.data
    splits, _ = choose_splits(shards, data.val_fraction, saved.settings.seed, saved.task.keeps_classes)
    batch_size = max(1, saved.settings.batch_size // saved.settings.accumulate)
    return ClipLoader(
        shards, "val", batch_size, members=saved.task.read_members(shards), numbers=splits["val"], shuffle=False,
        on_error=data.on_error, max_errors=data.max_errors,
    )  # fmt: skip


def _inputs(batch: Batch) -> dict[str, np.ndarray]:
    """What an exported model takes."""
    return {
        name: np.ascontiguousarray(values.numpy()) for name, values in {"clips": batch.clips, **batch.others}.items()
    }


def _write_int8(path: Path, smaller: Path, loader: ClipLoader) -> None:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Clips(CalibrationDataReader):
        """The first clips of validation, a batch at a time."""

        def __init__(self) -> None:
            steps = -(-CALIBRATION_CLIPS // loader.batch_size)
            self._batches: Iterator[Batch] = (batch for _, batch in zip(range(steps), loader.batches(0), strict=False))

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self._batches, None)
            return None if batch is None else _inputs(batch)

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        prepared, written = Path(folder, "prepared.onnx"), Path(folder, "int8.onnx")
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        # of weights 7 bits: CPUs without VNNI add two 8-bit products up in 16 bits, which may overflow
        quantize_static(prepared, written, Clips(), op_types_to_quantize=OPERATORS, per_channel=True, reduce_range=True)
        rename(written, smaller)


def _describe(saved: SavedModel, path: Path, loader: ClipLoader) -> dict[str, str]:
    """Size, time and figures of a model's file by what they are."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    scores, numbers, seconds = [], [], []
    for batch in loader.batches(0):
        inputs = _inputs(batch)
        scores.append(session.run(["scores"], inputs)[0])
        numbers.append(batch.numbers)
        for place in range(min(len(batch.numbers), TIMED_CLIPS - len(seconds))):
            one = {name: values[place : place + 1] for name, values in inputs.items()}
            start = time.perf_counter()
            session.run(["scores"], one)
            seconds.append(time.perf_counter() - start)
    found = _measure(saved, loader, np.concatenate(numbers), np.concatenate(scores))
    figures = {name: "-" if one["value"] is None else f"{one['value']:.4f}" for name, one in found.items()}
    return {
        "size": human_bytes(path.stat().st_size),
        "ms per clip": f"{1000 * statistics.median(seconds):.1f}",
        **figures,
    }


def _measure(saved: SavedModel, loader: ClipLoader, numbers: np.ndarray, scores: np.ndarray) -> Measures:
    from trainer.evaluation.predictions import Scored

    labels, groups = saved.task.labels(loader.shards)[numbers], loader.shards.samples["group"][numbers]
    items = Scored(labels, scores.astype(np.float64), groups, np.full(len(numbers), ""))
    return saved.task.measure(items, saved.threshold, with_intervals=False)
