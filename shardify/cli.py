"""Options → settings; errors → exit codes; nothing else."""

from __future__ import annotations

import functools
import json
import signal
import sys
from pathlib import Path

import click
import yaml

from shardify import __version__
from shardify.errors import ShardifyError, UsageError

INTERRUPTED = 130
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


def one_line_errors(command):
    """Every failure is one line on stderr and its own exit code, never a traceback."""

    @functools.wraps(command)
    def wrapped(*args, **kwargs):
        try:
            return command(*args, **kwargs)
        except ShardifyError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # one more would end in a traceback
            click.echo("interrupted: finished shards are kept; run the same command again to go on", err=True)
            sys.exit(INTERRUPTED)
        except OSError as error:
            click.echo(f"error: {error}; mend that and run the same command again to go on", err=True)
            sys.exit(1)

    return wrapped


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="shardify")
def main() -> None:
    """Decode videos once, into WebDataset shards of resized frames."""


@main.command()
@click.argument("data", type=FOLDER)
@click.argument("shards", type=FOLDER)
@click.option("--frames", type=int, default=16, show_default=True, help="Frames per clip.")
@click.option("--size", type=int, default=128, show_default=True, help="Frames are SIZE×SIZE pixels; a multiple of 8.")
@click.option("--clips", type=int, default=1, show_default=True, help="Clips per video, one from each equal segment.")
@click.option("--stride", type=int, help="Take every N-th frame around the segment's middle; else spread evenly.")
@click.option(
    "--fit", type=click.Choice(["stretch", "crop", "pad"]), default="stretch", show_default=True,
    help="How a picture that is not square becomes SIZE×SIZE.",
)  # fmt: skip
@click.option("--boxes", type=FILE, help="CSV path,x,y,width,height[,margin]: crop every frame of a video to its box.")
@click.option(
    "--codec", type=click.Choice(["jpeg", "raw"]), default="jpeg", show_default=True,
    help="One JPEG contact sheet per clip, or uncompressed .npy.",
)  # fmt: skip
@click.option("--quality", type=int, default=95, show_default=True, help="JPEG quality.")
@click.option("--shard-size", type=int, default=256, show_default=True, help="Clips per shard, at most.")
@click.option("--val-fraction", type=float, help="Share held out as val.  [default: 0.1; none of a laid-out train/]")
@click.option("--test-fraction", type=float, help="Share held out as test.  [default: 0.1; none of a laid-out train/]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the splits and of the order in the shards.")
@click.option("--workers", type=click.IntRange(1), help="Decoding processes.  [default: one per core]")
@click.option(
    "--timeout",
    type=click.FloatRange(1),
    default=600,
    show_default=True,
    help="CPU seconds that one video may take.",
)
@click.option("--strict", is_flag=True, help="Refuse damaged videos; exit 1 if any input failed.")
@click.option("--manifest", type=FILE, help="CSV path,class[,split][,group][,target] instead of class folders.")
@click.option("--group-by", help="Keep videos together: a column, a regular expression over paths, or none.")
@click.option("--retry-failed", is_flag=True, help="Try the inputs again that failed in earlier builds.")
@click.option("--prune", is_flag=True, help="Drop the clips of videos that are gone from DATA.")
@click.option("--rebuild-changed", is_flag=True, help="Pack videos again that have changed since (reads them all).")
@click.option("--config", type=FILE, help="YAML file with any of these options; the command line wins.")
@click.pass_context
@one_line_errors
def build(context: click.Context, data: Path, shards: Path, **options) -> None:
    """Turn every video below DATA into clips in the folder SHARDS.

    DATA holds train|val|test/CLASS/…, or CLASS/… only. Run it again to go on after an interruption, or to add
    the videos that have come since.
    """
    options = _with_config(context, options)
    from shardify.build import build as run_build
    from shardify.drift import Changes
    from shardify.settings import BuildSettings

    changes = Changes(*(options.pop(name) for name in ("retry_failed", "prune", "rebuild_changed")))
    boxes, manifest = options.pop("boxes"), options.pop("manifest")
    workers, timeout = options.pop("workers"), options.pop("timeout")
    settings = BuildSettings(**options, boxes=_file_hash(boxes) if boxes else None)
    report = run_build(
        data, shards, settings,
        manifest=manifest, boxes=boxes, workers=workers, timeout_seconds=timeout, changes=changes,
        say=lambda line: click.echo(line, err=True),
    )  # fmt: skip
    _summarise(report, shards)
    if not report.ok_inputs or (settings.strict and report.failed_inputs):
        sys.exit(1)


@main.command()
@click.argument("shards", type=FOLDER)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@one_line_errors
def info(shards: Path, as_json: bool) -> None:
    """Say what the folder SHARDS holds."""
    from collections import Counter

    from shardify.info import clip_table, describe, failure_lines, human_bytes

    found = describe(shards)
    if as_json:
        click.echo(json.dumps(found, indent=1, ensure_ascii=False))
        return
    settings = found["settings"]
    click.echo(
        f"{shards}: {found['clips']} clips of {settings['frames']} frames, {settings['size']} px, {settings['codec']}"
    )
    used = {name: split["classes"] for name, split in found["splits"].items() if split["clips"]}
    click.echo("\n".join(clip_table(used, found["classes"])))
    shard_count = sum(split["shards"] for split in found["splits"].values())
    click.echo(
        f"{found['groups']} groups, {shard_count} shards, {human_bytes(found['bytes'])}, {found['failed']} failed"
    )
    click.echo("\n".join(failure_lines(Counter(found["failures"]))), nl=bool(found["failures"]))


@main.command()
@click.argument("shards", type=FOLDER)
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), default="preview.jpg", show_default=True)
@click.option("--per-class", type=click.IntRange(1, 100), default=3, show_default=True, help="Clips of each class.")
@one_line_errors
def preview(shards: Path, out: Path, per_class: int) -> None:
    """Lay some clips of each class out on one picture, with their labels and times."""
    from shardify.preview import write_preview

    count = write_preview(shards, out, per_class)
    click.echo(f"{out}: {count} clips")


@main.command()
@click.argument("shards", type=FOLDER)
@click.option("--repair", type=FOLDER, metavar="DATA", help="Build damaged shards again from the videos in DATA.")
@click.option("--boxes", type=FILE, help="For --repair: the boxes file that the folder was built with.")
@click.option("--workers", type=click.IntRange(1), help="Shards checked at the same time.  [default: one per core]")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@one_line_errors
def verify(shards: Path, repair: Path | None, boxes: Path | None, workers: int | None, as_json: bool) -> None:
    """Check every hash, count, member, JPEG and JSON of the folder SHARDS; exit 1 if anything is wrong."""
    from dataclasses import asdict

    from shardify.build import usable_cores
    from shardify.verify import verify_folder

    damage = verify_folder(shards, workers or usable_cores())
    if repair and damage:
        from shardify.repair import repair_shards

        repair_shards(
            repair, shards, {item.file for item in damage}, boxes=boxes, say=lambda s: click.echo(s, err=True)
        )
        damage = verify_folder(shards, workers or usable_cores())
    if as_json:
        click.echo(json.dumps({"ok": not damage, "damage": [asdict(item) for item in damage]}, indent=1))
    elif damage:
        click.echo("\n".join(map(str, damage)))
    else:
        click.echo(f"{shards}: sound")
    sys.exit(1 if damage else 0)


def _with_config(context: click.Context, options: dict) -> dict:
    """The command line over the YAML file over the defaults; unknown keys are errors."""
    path = options.pop("config")
    if path is None:
        return options
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path}: must hold options as `name: value`")
    parameters = {parameter.name: parameter for parameter in context.command.params}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name not in options:
            import difflib

            near = difflib.get_close_matches(name, options, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(sorted(options))}"
            raise UsageError(f"{path}: unknown option {key}{hint}")
        if context.get_parameter_source(name) == click.core.ParameterSource.DEFAULT:
            options[name] = parameters[name].type_cast_value(context, value)
    return options


def _file_hash(path: Path) -> str:
    from shardify.pack import file_sha256

    return file_sha256(path)


def _summarise(report, shards: Path) -> None:
    from shardify.info import clip_table, failure_lines, human_bytes

    shard_list = [shard for split in report.meta["splits"].values() for shard in split["shards"]]
    if not (report.new_inputs or report.dropped_inputs):
        click.echo(f"{shards} is complete: nothing new to build")
    click.echo("\n".join(clip_table({s: c for s, c in report.clips.items() if c}, report.meta["classes"])))
    size = human_bytes(sum(shard["bytes"] for shard in shard_list))
    click.echo(
        f"{report.inputs} inputs = {report.ok_inputs} ok + {report.failed_inputs} failed; {report.ignored} other files "
        f"ignored\n{len(shard_list)} shards, {size}; {report.new_inputs} new videos in {report.seconds:.1f} s "
        f"({report.new_inputs / max(report.seconds, 1e-9):.1f}/s)"
    )
    if report.failures:
        click.echo("failed:\n" + "\n".join(failure_lines(report.failures)))
    if report.ok_inputs:
        click.echo(f"next: python -m trainer --shards {shards}")
    else:
        click.echo("error: no video gave a clip; see the reasons above", err=True)


if __name__ == "__main__":
    main()
