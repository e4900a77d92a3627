"""`python -m trainer`: options → settings; errors → exit codes; nothing else."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import click

from shardify.terminal import escape_unprintable
from trainer.config import load_settings
from trainer.errors import Interrupted, SettingsError, ShardifyError
from trainer.kaggle import SESSION_HOURS, runs_folder, with_session_limit
from trainer.threads import bound_spinning

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--shards", type=click.Path(path_type=Path), required=True, help="Folder made by `shardify build`.")
@click.option("--config", type=FILE, help="YAML file with settings.")
@click.option("--out", type=click.Path(path_type=Path), help="Where the run is kept.  [default: a new runs/NAME]")
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint of --out (or of the newest runs/NAME).")
@click.option("--devices", default="auto", show_default=True, help="auto | cpu | a number of GPUs.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting; may be repeated.")
def main(
    shards: Path, config: Path | None, out: Path | None, resume: bool, devices: str, overrides: tuple[str, ...]
) -> None:
    """Train a video classifier on shards, on CPU, one GPU or several."""
    try:
        settings = load_settings(config, overrides)
        out = choose_out(out, config, resume)
        run(settings, shards, out, resume, devices)
    except ShardifyError as error:
        rank = int(os.environ.get("RANK", 0))
        if rank and isinstance(error, Interrupted):
            sys.exit(error.exit_code)  # all processes end so, and the first one says it
        click.echo(f"error{f' (process {rank})' if rank else ''}: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        click.echo("interrupted at once; --resume goes on from the newest checkpoint", err=True)
        sys.exit(130)
    except OSError as error:
        click.echo(f"error: {error}; mend that, then --resume goes on from the newest checkpoint", err=True)
        sys.exit(1)


def run(settings, shards: Path, out: Path, resume: bool, devices: str) -> None:
    from shardify.index import read_index
    from trainer.distributed import join_group, leave_group, num_devices, relaunch
    from trainer.find import find_shards
    from trainer.report import figures_of
    from trainer.train import train

    gpus = num_devices(devices)
    if gpus > 1 and "LOCAL_RANK" not in os.environ:
        folder, tars = find_shards(shards)
        if tars is None:
            read_index(folder)  # what is wrong with it is said once, not by every process
        relaunch(gpus, sys.argv[1:], out)
    group = join_group(gpus > 0)
    limited = with_session_limit(settings)
    if group.is_main and limited.max_hours != settings.max_hours:
        click.echo(f"Kaggle ends sessions after {SESSION_HOURS:g} h: max_hours is {limited.max_hours}", err=True)
    try:
        record = train(limited, shards, out, group, resume)
    finally:
        leave_group(group)
    if group.is_main:
        test = record["test"]
        figures = ", ".join(f"{k} {'undefined' if v is None else f'{v:.4f}'}" for k, v in figures_of(test).items())
        click.echo(f"{test['split']} ({test['clips']} clips): {figures}")
        click.echo(f"results: {out / 'results'}; best model: {out / 'models' / 'best_model.pth'}")


def choose_out(out: Path | None, config: Path | None, resume: bool) -> Path:
    """The run's folder. Raises SettingsError where it would overwrite another run."""
    if os.environ.get("TRAINER_OUT") and "LOCAL_RANK" in os.environ:
        return Path(os.environ["TRAINER_OUT"])
    if out is None:
        base = runs_folder() / (config.stem if config else "run")
        used = [
            path
            for path in base.parent.glob(f"{base.name}*")
            if re.fullmatch(rf"{re.escape(base.name)}(-\d+)?", path.name)
        ]
        if resume and used:
            return max(used, key=_run_number)
        return Path(f"{base}-{max(map(_run_number, used)) + 1}") if used else base
    if not resume and (out / "config.yaml").exists():
        raise SettingsError(f"{out} holds a run already; pass --resume to go on with it, or another --out")
    return out


def _run_number(path: Path) -> int:
    tail = path.name.rpartition("-")[2]
    return int(tail) if tail.isdigit() else 1


if __name__ == "__main__":
    escape_unprintable()
    bound_spinning()
    main()
