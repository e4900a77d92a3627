"""A whole run, from shards to report, readable from top to bottom."""

from __future__ import annotations

import dataclasses
import logging
import math
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
import yaml

from shardify.machine import is_out_of_memory
from shardify.storage.local import write_atomically
from trainer.config.auto import check_used, resolve_by_device, resolve_by_model, take_over
from trainer.config.load import flatten
from trainer.config.run_folder import has_trained, hold_folder, read_record
from trainer.config.settings import Settings
from trainer.devices.distributed import Group
from trainer.devices.gpu import check_gpu
from trainer.engine.assemble import (
    choose_run_cache,
    compile_model,
    make_compared,
    make_engine,
    make_loaders,
    make_model,
)
from trainer.engine.batch_size import choose_batch_size
from trainer.engine.checkpoint import Progress, check_resumable, load_newest, load_state, save_state
from trainer.engine.stop import StopWatch, Votes
from trainer.errors import Interrupted, TrainerError
from trainer.evaluation import report
from trainer.evaluation.predictions import Predictions
from trainer.final_report import final_report
from trainer.monitor.log_file import RunLog
from trainer.monitor.progress import Monitor, epoch_line, show_epoch, show_opening, stopped_line
from trainer.monitor.step_table import add_validation
from trainer.monitor.tensorboard import check_installed
from trainer.run import Run
from trainer.saved_model import publish_model, save_model, settle_best_model
from trainer.shards.extra import add_extra
from trainer.shards.mix import drop_unweighted, open_all
from trainer.shards.shard_cache import cache_of
from trainer.shards.splits import choose_splits, limit_per_class
from trainer.tasks import task_of
from trainer.tasks.base import Validated

logger = logging.getLogger(__name__)


def train(settings: Settings, names: Path | list[Path], out: Path, group: Group, resume: bool) -> dict:
    """Train, choose the best epoch on validation, evaluate it on test; returns experiment_results.json's content.

    Raises ShardifyError for all that stops a run; Interrupted after a signal or max_hours, with a checkpoint made.
    """
    with ExitStack() as held:
        log = RunLog()
        with group.failing_together():
            if group.is_main:
                held.enter_context(hold_folder(out, resume))
                held.enter_context(log)
            checkpoint = find_checkpoint(out) if resume and group.is_main else None
        checkpoint = group.of_main(checkpoint)
        try:
            run = prepare(settings, names, out, group, checkpoint)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise TrainerError(
                f"the GPU's memory does not hold the model and what data.cache={settings.data.cache} keeps there "
                f"({str(error).splitlines()[0]}); use data.cache=ram or a smaller model.backbone"
            ) from error
        if checkpoint:
            run.progress = load_state(run.engine, checkpoint)
            run.notes += [note for note in run.progress.choices if note not in run.notes]
        record = group.of_main(read_record(out) if group.is_main else None)
        if run.is_over and record:
            logger.info(f"{out} is complete: nothing left to train")
            return record
        begin_in_folder(run, log)
        show_opening(run)
        if checkpoint:
            logger.info(f"resuming at {run.settings.place(run.progress.epoch, run.progress.step)}")
        return train_to_the_end(run)


def find_checkpoint(out: Path) -> dict | None:
    """The newest checkpoint, None where none was made. Raises TrainerError where the run has lost it."""
    checkpoint = load_newest(out / "checkpoints")
    if not checkpoint:
        if has_trained(out):
            raise TrainerError(
                f"{out} holds a run, but no checkpoint to resume from; put checkpoints/ back, or pass another --out"
            )
        logger.info(f"nothing to resume in {out}: starting at epoch 1")
    return checkpoint


def begin_in_folder(run: Run, log: RunLog) -> None:
    """Bring the run's folder to where `run.progress` stands, and begin its log file."""
    progress = run.progress
    with run.group.failing_together():
        if run.group.is_main:
            settle_best_model(run.out, progress)
            if report.remove_results(run.out / "results", run.task.plots, run.task.further_files):
                logger.info(f"the results of an earlier end of {run.out} are removed; new ones come at this end")
            write_atomically(run.out / "config.yaml", yaml.safe_dump(run.settings.to_dict(), sort_keys=False).encode())
            log.open(run.out, {"command": shlex.join(sys.argv), **flatten(run.settings.to_dict())})
    best = run.group.of_main((progress.best_value, progress.best_epoch, progress.best_sha256))
    progress.best_value, progress.best_epoch, progress.best_sha256 = best


def train_to_the_end(run: Run) -> dict:
    """All epochs that are left, then the final report, whose content it returns."""
    if not run.is_over:
        run.loaders["train"].begin(run.progress.epoch, run.progress.step)
        run.loaders["val"].begin(epoch=0)  # so the first evaluation does not wait for its first batches
    stop = StopWatch(run.settings.max_hours)
    try:
        while not run.is_over:
            figures = train_epoch(run, stop)
            validate_epoch(run, figures, stop)
            if run.group.any(bool(stop.check())) and not run.is_over:
                raise Interrupted(stopped_line(run, stop.reason))
        stop.close()
        return final_report(run)
    except RuntimeError as error:
        if not is_out_of_memory(error):  # in the two passes of a step the engine takes smaller parts
            raise
        raise TrainerError(
            f"out of memory in the optimizer or in evaluation ({str(error).splitlines()[0]}); use a smaller "
            f"batch_size, data.size or model.backbone"
        ) from error
    finally:
        stop.close()
        for loader in (*run.loaders.values(), *([run.compared] if run.compared else [])):
            loader.close()


def prepare(settings: Settings, names: Path | list[Path], out: Path, group: Group, checkpoint: dict | None) -> Run:
    """Open the shards, build the model and all that trains it; `auto` in the settings becomes definite."""
    torch.manual_seed(settings.seed)
    torch.backends.cudnn.benchmark = True  # shapes hardly change
    with group.failing_together():
        if settings.tensorboard:
            check_installed()
        check_gpu(group.device)
        check_used(settings)
        if checkpoint:
            settings = take_over(settings, checkpoint["settings"])
        settings = resolve_by_device(settings, group.device)
        # data
        opening = settings.data.sheet_frames, cache_of(settings.data)
        shards = open_all(names, *opening)
        task = task_of(settings, shards.heads, shards.members)
        splits, notes = choose_splits(shards, settings.data.val_fraction, settings.seed, task.keeps_classes)
        shards, splits, joined = add_extra(shards, splits, settings.data.extra or (), *opening)
        splits["train"] = drop_unweighted(settings.data.weights, shards, splits["train"])
        if settings.data.max_per_class:
            splits["train"] = limit_per_class(shards, splits["train"], settings.data.max_per_class, settings.seed)
        settings, about_labels = task.check_data(settings, shards, splits)
        settings, chosen = task.resolve(settings, group.device)
        notes += joined + about_labels + chosen
        if checkpoint:
            check_resumable(checkpoint, settings.to_dict(), shards.fingerprint)
        # model
        model = make_model(settings, shards, splits["train"], checkpoint)
        origin = getattr(model, "weights_origin", "the model's own")
        settings = resolve_by_model(settings, model)
    with group.waiting_for_all():
        shards.fetch()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    start = {"shards": shards.fingerprint, "weights": origin, "parameters": parameters}
    group.check_same(start | flatten(settings.to_dict()))
    # what depends on memory
    cache, cache_bytes, explained = choose_run_cache(settings, shards, splits, group)
    notes += explained
    if settings.batch_size == "auto":
        size, why = choose_batch_size(settings, shards, splits["train"], model, group, cache_bytes)
        settings = dataclasses.replace(settings, batch_size=size)
        notes.append(why)
    loaders = make_loaders(settings, shards, splits, cache, group)
    notes += [loaders["train"].pairs.note()] if settings.data.pairs else []
    engine = make_engine(settings, shards, splits["train"], model, group)
    notes += compile_model(engine, loaders["train"]) if settings.model.compile else []
    progress = Progress(weights_origin=origin, choices=chosen)
    beside = make_compared(engine, loaders)
    return Run(settings, shards, loaders, model, engine, group, out, progress, notes, *beside)


def train_epoch(run: Run, stop: StopWatch) -> dict:
    """Train from the progress' position to the epoch's end; returns the epoch's figures."""
    settings, progress, loader = run.settings, run.progress, run.loaders["train"]
    every, steps = settings.checkpoint_every_steps, len(loader)
    sums = run.engine.new_sums(progress.sums)
    display = Monitor(run)
    waited = loader.wait_seconds
    votes = Votes(run.group)

    def after_step(step: int) -> bool:
        """Write a checkpoint where one is due; True to stop here."""
        display.update(step, loader.step_clips(step), sums, loader.wait_seconds - waited)
        is_last = step + 1 == steps
        ends = votes.after_step(bool(stop.check()), is_last)
        if is_last and not ends:
            return False  # the checkpoint comes with validation
        if not is_last:
            progress.lr = run.learning_rate  # of the step to come
        if ends or (every and (step + 1) % every == 0 and not run.engine.guard.in_a_row()):  # else: older ones go
            progress.step, progress.sums = step + 1, run.engine.total(sums)
            run.save()
        return ends

    if progress.step < steps:  # else: stopped before validation
        progress.lr = run.learning_rate
    ended_early = run.engine.train_epoch(loader, progress.epoch, progress.step, sums, after_step)
    seconds = display.close()
    if ended_early:
        raise Interrupted(stopped_line(run, stop.reason))
    progress.step, progress.sums = steps, run.engine.total(sums)
    progress.clips += display.clips
    progress.seconds += seconds
    progress.wait_seconds += loader.wait_seconds - waited
    return {
        "epoch": progress.epoch + 1,
        **({"step": (progress.epoch + 1) * steps} if settings.interval else {}),
        "lr": progress.lr,
        **run.task.train_figures(progress.sums),
        "epoch_seconds": round(seconds, 3),
        "clips_per_second": round(display.clips / seconds, 2),
        "data_wait": round((loader.wait_seconds - waited) / seconds, 5),
        "cache_hits": display.cache_hits(),
    }


def validate_epoch(run: Run, figures: dict, stop: StopWatch) -> None:
    """Evaluate, record the epoch, keep the model if it is the best so far, move the learning rate, checkpoint."""
    settings, progress, votes = run.settings, run.progress, Votes(run.group)

    def between_batches() -> None:
        if votes.after_step(bool(stop.check()), is_last=False):
            raise Interrupted(stopped_line(run, stop.reason))

    try:
        predictions = run.engine.evaluate(run.loaders["val"], between_batches)
        if run.compared:
            figures["train_loss_fixed"] = run.engine.evaluate(run.compared, between_batches).loss
    except Interrupted:
        run.save()  # to begin with this validation
        raise
    for loader in run.loaders.values():
        loader.check_damaged(run.group.gather)
    if not np.isfinite(predictions.outputs).all():
        raise TrainerError(
            f"after {settings.place(progress.epoch)} the model's outputs are not finite; lower optimizer.lr, or use "
            f"amp=float32; the newest checkpoint is from before that"
        )
    if run.task.draws_samples:  # for minutes, in which nothing looks at the stop
        run.save()
    validation = run.task.split_figures(predictions, "val")
    row = figures | {f"val_{name}": value for name, value in report.figures_of(validation).items()}
    progress.history.append(row)
    value = run.group.of_main(validation[settings.metric])  # machines of two kinds may round otherwise
    if value is None:  # equal outputs correlate with nothing, skipped clips may be the last of a class: worse than any
        value = -math.inf
    sign = 1 if run.task.maximises(settings.metric) else -1
    better = progress.best_value is None or sign * value > sign * progress.best_value
    if better:
        progress.best_value, progress.best_epoch = value, progress.epoch + 1
    run.engine.schedule.after_epoch(value)
    progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, {}
    logger.info(epoch_line(row, settings, run.task.shown_metric(settings.metric), better))
    with run.group.failing_together(), run.group.waiting_for_main():  # samples may take minutes
        if run.group.is_main:
            write_epoch(run, row, predictions if better else None)


def write_epoch(run: Run, row: dict, best: Predictions | None) -> None:
    """An epoch's files: figures, checkpoint, and the model where it is the best so far; best: its predictions."""
    progress, task, steps = run.progress, run.task, len(run.loaders["train"])
    if best:
        progress.best_sha256 = save_model(run, best, progress.best_value)
    ends = (progress.epoch - 1) * steps, progress.epoch * steps
    numbers = {split: loader.numbers for split, loader in run.loaders.items()}
    validated = Validated(run.engine.evaluated, run.shards, numbers, ends, best is not None)
    row |= task.after_validation(run.out, validated)
    if run.settings.steps:
        add_validation(run.out, row)
    shown = task.history_columns(), task.history_curves(run.settings.metric), task.metric_limits
    report.write_history(run.out / "results", progress.history, *shown, progress.best_epoch)
    show_epoch(run, row)
    save_state(run.engine, progress, steps, run.out, run.shards.fingerprint)
    publish_model(run.out)
