"""The command `python -m trainer`: its options become settings, errors become exit codes."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import click

from shardify.errors import ShardifyError
from shardify.terminal import escape_unprintable, show, warn
from trainer.config.load import load_settings
from trainer.config.run_folder import choose_out, settings_of
from trainer.config.session import SESSION_HOURS, with_session_limit
from trainer.config.settings import Settings
from trainer.devices.threads import bound_spinning
from trainer.errors import GroupError, Interrupted, SettingsError, TrainerError, first_sentence, is_lost_process
from trainer.options import Command

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--shards",
    type=click.Path(path_type=Path),
    required=True,
    multiple=True,
    help="Folder made by `shardify build`; several are mixed.",
)
@click.option("--config", type=FILE, help="YAML file with settings.")
@click.option("--out", type=click.Path(path_type=Path), help="Where the run is kept.  [default: a new runs/NAME]")
@click.option(
    "--resume", is_flag=True, help="Continue from the newest checkpoint of --out (or of the newest runs/NAME)."
)
@click.option("--devices", default="auto", show_default=True, help="auto | cpu | a number of GPUs.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting; may be repeated.")
def main(
    shards: tuple[Path, ...],
    config: Path | None,
    out: Path | None,
    resume: bool,
    devices: str,
    overrides: tuple[str, ...],
) -> None:
    """Train a video classifier on shards, on CPU, one GPU or several."""
    try:
        chosen = choose_out(out, config, resume)
        try:
            run(load(chosen, config, overrides, resume), shards, chosen, resume, devices)
        finally:
            if out is None:
                with contextlib.suppress(OSError):  # it holds something
                    chosen.rmdir()
    except ShardifyError as error:
        rank, local_rank = int(os.environ.get("RANK", 0)), int(os.environ.get("LOCAL_RANK", 0))
        if (rank and isinstance(error, Interrupted)) or (local_rank and isinstance(error, GroupError)):
            sys.exit(error.exit_code)  # all processes end so, and the first one, or the first of each machine, says it
        warn(f"error{f' (process {rank})' if rank else ''}: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        click.echo("interrupted at once; --resume continues from the newest checkpoint", err=True)
        sys.exit(130)
    except OSError as error:
        warn(f"error: {error}; fix that, then --resume continues from the newest checkpoint")
        sys.exit(1)


def load(out: Path, config: Path | None, overrides: tuple[str, ...], resume: bool) -> Settings:
    """The run's settings; resumed without a file, it has its own, except for max_hours, which belongs to one session.

    Raises SettingsError where only that file names a custom model: opening somebody's folder must not run their code.
    """
    own = None if config else settings_of(out, resume)
    if own is None:
        return load_settings(config, overrides)
    settings = load_settings(own, ("max_hours=none", *overrides))
    name = settings.model.name
    if ":" in name and not any(text.startswith("model.name=") for text in overrides):
        raise SettingsError(f"{own} names the custom model {name}; if you trust its code, add --set model.name={name}")
    return settings


def run(settings: Settings, shards: tuple[Path, ...], out: Path, resume: bool, devices: str) -> None:
    from shardify.format.index import read_index
    from trainer.devices.distributed import join_group, leave_group, num_devices
    from trainer.devices.launch import relaunch
    from trainer.evaluation.report import figures_of
    from trainer.shards.locate import find_shards
    from trainer.train import train

    gpus = num_devices(devices)
    if gpus > 1 and "LOCAL_RANK" not in os.environ:
        for folder, tars in map(find_shards, shards):
            if tars is None:
                read_index(folder)  # what is wrong with it is said once, not by every process
        relaunch(gpus, sys.argv[1:], out)
    group = join_group(gpus > 0)
    limited = with_session_limit(settings)
    if group.is_main and limited.max_hours != settings.max_hours:
        click.echo(f"Kaggle ends sessions after {SESSION_HOURS:g} h: max_hours is {limited.max_hours}", err=True)
    try:
        record = train(limited, list(shards), out, group, resume)
    except RuntimeError as error:
        if group.world == 1 or not is_lost_process(error):
            raise
        reason = first_sentence(error)
        raise TrainerError(
            f"another process has ended ({reason}); --resume continues from the newest checkpoint"
        ) from error
    finally:
        leave_group(group)
    if group.is_main:
        test = record["test"]
        figures = ", ".join(f"{k} {'undefined' if v is None else f'{v:.4f}'}" for k, v in figures_of(test).items())
        show(f"{test['split']} ({test['clips']} clips): {figures}")
        show(f"results: {out / 'results'}; best model: {out / 'models' / 'best_model.pth'}")


if __name__ == "__main__":
    escape_unprintable()
    bound_spinning()
    main()
