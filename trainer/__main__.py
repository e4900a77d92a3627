"""The command `python -m trainer`: its options become settings, errors become exit codes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shardify.errors import ShardifyError
from shardify.options import LocalPath
from shardify.terminal import escape_unprintable, show, warn
from trainer.config.load import load_settings
from trainer.config.options import FOLDER, LOCAL, Command
from trainer.config.run_folder import chosen_folder, settings_of
from trainer.config.session import SESSION_HOURS, with_session_limit
from trainer.config.settings import Settings
from trainer.devices.threads import bound_spinning
from trainer.engine.stop import resumable_end
from trainer.errors import GroupError, Interrupted, SettingsError

if TYPE_CHECKING:
    from trainer.devices.distributed import Group

FILE = LocalPath(path_type=Path, dir_okay=False)


@dataclass(frozen=True)
class Asked:
    """The options of the command."""

    shards: tuple[Path, ...]
    config: Path | None
    out: Path | None
    resume: bool
    devices: str
    overrides: tuple[str, ...]

    def own_settings(self, folder: Path) -> dict | None:
        """Those of the run to resume, where no file replaces them."""
        return None if self.config else settings_of(folder, self.resume)


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--shards",
    type=FOLDER,
    required=True,
    multiple=True,
    help="Folder made by `shardify build`; several are mixed.",
)
@click.option("--config", type=FILE, help="YAML file with settings.")
@click.option("--out", type=LOCAL, help="Where the run is kept.  [default: a new runs/NAME]")
@click.option(
    "--resume", is_flag=True, help="Continue from the newest checkpoint of --out (or of the newest runs/NAME)."
)
@click.option("--devices", default="auto", show_default=True, help="auto | cpu | a number of GPUs.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting; may be repeated.")
def main(**options) -> None:
    """Train a video classifier on shards, on CPU, one GPU or several."""
    code = 0
    try:
        if "LOCAL_RANK" in os.environ:
            run_in_group(Asked(**options))
        else:
            with resumable_end():
                run_alone(Asked(**options))
    except ShardifyError as error:
        code, rank = error.exit_code, int(os.environ.get("RANK", 0))
        # what ends all processes, the first one says, or the first of each machine; all have the same settings
        is_said = rank if isinstance(error, Interrupted) else int(os.environ.get("LOCAL_RANK", 0))
        if not (is_said and isinstance(error, (Interrupted, GroupError, SettingsError))):
            warn(f"error{f' (process {rank})' if rank else ''}: {error}")
    except KeyboardInterrupt:
        click.echo("interrupted at once; --resume continues from the newest checkpoint", err=True)
        code = 130
    except OSError as error:
        warn(f"error: {error}; fix that, then --resume continues from the newest checkpoint")
        code = 1
    end(code)


def end(code: int) -> None:
    """End with this exit code, if it is not 0, which a launcher that was told to stop would not see otherwise."""
    if path := os.environ.get("TRAINER_EXIT_CODE"):
        with contextlib.suppress(OSError):  # the launcher was killed
            Path(path).write_text(str(code))
    if code:
        sys.exit(code)


def run_alone(asked: Asked) -> None:
    """Train in this process, or become the launcher of one for each of several GPUs."""
    from shardify.format.index import read_index
    from trainer.devices.distributed import join_group, num_devices
    from trainer.devices.launch import relaunch
    from trainer.shards.locate import find_shards

    with chosen_folder(asked.out, asked.config, asked.resume) as chosen:
        settings = load(chosen, asked.config, asked.overrides, asked.own_settings(chosen))
        gpus = num_devices(asked.devices)
        if gpus > 1:
            for folder, tars in map(find_shards, asked.shards):
                if tars is None and isinstance(folder, Path):
                    read_index(folder)  # what is wrong with it is said once, not by every process
            relaunch(gpus, sys.argv[1:], chosen)
        train_and_show(settings, asked, chosen, join_group(gpus > 0))


def run_in_group(asked: Asked) -> None:
    """Train as one process of several, of which the main one alone sees the run's folder."""
    from trainer.devices.distributed import joined_group, num_devices

    with joined_group(num_devices(asked.devices) > 0) as group, contextlib.ExitStack() as held:
        found = None
        with group.failing_together():
            if group.is_main:
                chosen = held.enter_context(chosen_folder(asked.out, asked.config, asked.resume))
                found = chosen, asked.own_settings(chosen)
        chosen, own = group.of_main(found)
        with group.failing_together():
            settings = load(chosen, asked.config, asked.overrides, own)
        train_and_show(settings, asked, chosen, group)


def load(out: Path, config: Path | None, overrides: tuple[str, ...], own: dict | None) -> Settings:
    """The run's settings; resumed without a file, it has its own, except for max_hours, which belongs to one session.

    own: what config.yaml of the run to resume holds, instead of config. Raises SettingsError where only that file names
    a custom model: opening somebody's folder must not run their code.
    """
    if own is None:
        return load_settings(config, overrides)
    settings = load_settings(own, ("max_hours=none", *overrides))
    name = settings.model.name
    if ":" in name and not any(text.startswith("model.name=") for text in overrides):
        raise SettingsError(
            f"{out / 'config.yaml'} names the custom model {name}; if you trust its code, add --set model.name={name}"
        )
    return settings


def train_and_show(settings: Settings, asked: Asked, out: Path, group: Group) -> None:
    from trainer.evaluation.report import figures_of
    from trainer.train import train

    limited = with_session_limit(settings)
    if group.is_main and limited.max_hours != settings.max_hours:
        click.echo(f"Kaggle ends sessions after {SESSION_HOURS:g} h: max_hours is {limited.max_hours}", err=True)
    limited = dataclasses.replace(limited, max_hours=group.of_main(limited.max_hours))  # their clocks may differ
    record = train(limited, list(asked.shards), out, group, asked.resume)
    if group.is_main:
        test = record["test"]
        figures = ", ".join(f"{k} {'undefined' if v is None else f'{v:.4f}'}" for k, v in figures_of(test).items())
        show(f"{test['split']} ({test['clips']} clips): {figures}")
        show(f"results: {out / 'results'}; best model: {out / 'models' / 'best_model.pth'}")


if __name__ == "__main__":
    escape_unprintable()
    bound_spinning()
    main()
