"""The commands beside `build` and `plan`, one function each."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from shardify.errors import FormatError, ShardifyError, UsageError
from shardify.one_line_errors import one_line_errors
from shardify.options import FiniteRange, LocalPath
from shardify.terminal import show, warn

FOLDER = click.Path(path_type=Path, file_okay=False)  # or an address
LOCAL_FOLDER = LocalPath(path_type=Path, file_okay=False)
FILE = LocalPath(path_type=Path, dir_okay=False, exists=True)
NEW_FILE = LocalPath(path_type=Path, dir_okay=False)
# https://github.com/Kaggle/kaggle-cli/blob/main/docs/datasets_metadata.md#licenses
LICENSES = (
    "CC0-1.0", "CC-BY-3.0", "CC-BY-3.0-IGO", "CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-NC-ND-4.0", "CC-BY-NC-SA-3.0-IGO",
    "CC-BY-NC-SA-4.0", "CC-BY-ND-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CDLA-Permissive-1.0", "CDLA-Sharing-1.0",
    "DbCL-1.0", "EU-ODP-Legal-Notice", "FDL-1.3", "GPL-2.0", "GPL-3.0", "AGPL-3.0", "LGPL-3.0", "ODC-BY-1.0",
    "ODbL-1.0", "PDDL", "US-Government-Works", "apache-2.0", "copyright-authors", "other", "unknown",
)  # fmt: skip


@click.command()
@click.argument("shards", type=FOLDER)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@one_line_errors
def info(shards: Path, as_json: bool) -> None:
    """Say what the folder SHARDS holds; it may lie in object storage."""
    from collections import Counter

    from shardify.storage.place import open_place
    from shardify.text import clip_tables, failure_lines, human_bytes, remark_lines, sound_lines
    from shardify.tools.info import describe

    shards = open_place(shards)
    found = describe(shards)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    settings = found["settings"]
    show(f"{shards}: {found['clips']} clips of {settings['frames']} frames, {settings['size']} px, {settings['codec']}")
    used = {name: split["heads"] for name, split in found["splits"].items() if split["clips"]}
    counts = {head: {split: heads[head] for split, heads in used.items()} for head in found["heads"]}
    show(*clip_tables(counts, found["heads"]))
    shard_count = sum(split["shards"] for split in found["splits"].values())
    click.echo(
        f"{found['groups']} groups, {shard_count} shards, {human_bytes(found['bytes'])}, {found['failed']} failed"
    )
    show(
        *found["notes"],
        *sound_lines(found["sound"]),
        *remark_lines(found["remarks"]),
        *failure_lines(Counter(found["failures"])),
    )


@click.command()
@click.argument("shards", type=LOCAL_FOLDER)
@click.option(
    "-o", "--out", type=NEW_FILE, default="preview.jpg", show_default=True,
    help="The picture; its ending says the format.",
)  # fmt: skip
@click.option("--per-class", type=click.IntRange(1, 100), default=3, show_default=True, help="Clips of each class.")
@one_line_errors
def preview(shards: Path, out: Path, per_class: int) -> None:
    """Lay clips of each class out on one picture.

    Their labels and times stand above them.
    """
    from shardify.tools.preview import write_preview

    count = write_preview(shards, out, per_class)
    show(f"{out}: {count} clips")


@click.command()
@click.argument("data", type=LOCAL_FOLDER)
@click.argument("boxes", type=NEW_FILE)
@click.option("--frames", type=int, default=16, show_default=True, help="Frames of each video that are looked at.")
@click.option("--face-margin", type=float, default=0.3, show_default=True, help="Added on every side of the box.")
@click.option("--face-size", type=float, default=0.05, show_default=True, help="The smallest, of the short side.")
@click.option("--faces-model", type=FILE, help="Find faces with this YuNet file (needs opencv-python-headless).")
@click.option("--preview", type=NEW_FILE, help="Draw some boxes on this picture.")
@click.option("--workers", type=click.IntRange(1), help="Decoding processes.  [default: one per core]")
@one_line_errors
def faces(
    data: Path, boxes: Path, faces_model: Path | None, preview: Path | None, workers: int | None, **options
) -> None:
    """Write a table of the boxes around faces.

    BOXES has a row for every video below DATA, with the box around its main face. It is what `shardify build --faces`
    would cut to, to be looked at and edited, and passed to `build --boxes`.
    """
    from shardify.format.settings import BuildSettings
    from shardify.storage.local import file_sha256
    from shardify.text import failure_lines
    from shardify.tools.faces import write_boxes

    settings = BuildSettings(faces=True, faces_model=faces_model and file_sha256(faces_model), **options)
    found = write_boxes(data, boxes, settings, faces_model=faces_model, preview=preview, workers=workers)
    show(
        f"{boxes}: {found.boxes} boxes, {found.failures.total()} videos without",
        *failure_lines(found.failures, boxes.name),
    )
    if not found.boxes:
        sys.exit(1)


@click.command()
@click.argument("shards", type=FOLDER)
@click.option("--repair", type=LOCAL_FOLDER, metavar="DATA", help="Make what is damaged again, from videos in DATA.")
@click.option("--boxes", type=FILE, help="For --repair: the boxes file that the folder was built with.")
@click.option("--faces-model", type=FILE, help="For --repair: the YuNet file that the folder was built with.")
@click.option("--timeout", type=FiniteRange(1), default=600, help="For --repair: CPU seconds that one video may take.")
@click.option("--workers", type=click.IntRange(1), help="Shards checked at the same time.  [default: one per core]")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@one_line_errors
def verify(
    shards: Path,
    repair: Path | None,
    boxes: Path | None,
    faces_model: Path | None,
    timeout: float,
    workers: int | None,
    as_json: bool,
) -> None:
    """Check the folder SHARDS; exit 1 if anything is wrong.

    Every hash, count, member, JPEG and JSON is looked at. SHARDS may be an address in object storage.
    """
    from dataclasses import asdict

    from shardify.machine import usable_cores
    from shardify.storage.place import open_place
    from shardify.tools.verify import verify_folder

    shards = open_place(shards)
    if repair and not isinstance(shards, Path):
        raise UsageError(f"{shards}: lies in object storage; --repair mends folders of this machine")
    damage = verify_folder(shards, workers or usable_cores())
    if repair and damage:
        from shardify.tools.repair import repair_folder

        repair_folder(repair, shards, boxes=boxes, faces_model=faces_model, timeout_seconds=timeout)
        damage = verify_folder(shards, workers or usable_cores())
    if as_json:
        click.echo(json.dumps({"ok": not damage, "damage": [asdict(item) for item in damage]}, indent=1))
    elif damage:
        show(*damage)
    else:
        show(f"{shards}: sound")
    sys.exit(1 if damage else 0)


@click.command()
@click.argument("shards", type=LOCAL_FOLDER)
@one_line_errors
def card(shards: Path) -> None:
    """Write the dataset card again.

    It is SHARDS/README.md, which the Hugging Face Hub shows, and by which it finds the splits.
    """
    from shardify.format.card import card_bytes
    from shardify.format.index import read_index
    from shardify.storage.local import write_atomically

    index = read_index(shards)
    write_atomically(shards / "README.md", card_bytes(index.meta, index.samples))
    show(shards / "README.md")


@click.command()
@click.argument("shards", type=LOCAL_FOLDER)
@click.option("--id", "dataset", metavar="OWNER/SLUG", required=True, help="Your name at Kaggle and the dataset's.")
@click.option("--title", required=True, help="What Kaggle shows; 6 to 50 characters.")
@click.option(
    "--license", "license_name", metavar="NAME", type=click.Choice(LICENSES, case_sensitive=False), default="unknown",
    help="One of Kaggle's names, for example CC-BY-4.0.",
)  # fmt: skip
@click.option("--upload", "sends", is_flag=True, help="Create the private dataset, wait for it, compare what arrived.")
@click.option("--new-version", "message", metavar="MESSAGE", help="The same for a dataset that exists already.")
@one_line_errors
def kaggle(shards: Path, dataset: str, title: str, license_name: str, sends: bool, message: str | None) -> None:
    """Make the folder SHARDS ready for Kaggle, and send it if told.

    It is checked as by `verify`; what is to be sent is gathered, by hard links, in SHARDS-kaggle. Run it again
    after a failure: what Kaggle has already is not sent twice.
    """
    from shardify.format.index import read_meta
    from shardify.kaggle.stage import check_metadata, commands, stage
    from shardify.machine import usable_cores
    from shardify.tools.verify import verify_folder

    if sends and message is not None:
        raise UsageError("--upload makes a dataset, --new-version changes one; pass one of them")
    if message is not None and not message.strip():
        raise UsageError("--new-version is empty; say what has changed")
    if dataset != dataset.lower():
        dataset = dataset.lower()
        warn(f"--id: names at Kaggle are in lower case: {dataset}")
    check_metadata(dataset, title)
    read_meta(shards)  # what is no finished folder says so itself
    warn(f"checking {shards}")
    damage = verify_folder(shards, usable_cores())
    if damage:
        raise FormatError(f"{shards}: is damaged, so nothing is sent: {damage[0]} (shardify verify shows all)")
    staged = stage(shards, dataset, title, license_name)
    show(*staged.lines())
    if sends or message is not None:
        from shardify.kaggle.upload import upload

        upload(staged, message)
    else:
        show(*commands(staged))


@click.command()
@one_line_errors
def doctor() -> None:
    """Say what this machine lacks, with the remedy.

    A line each, with ✓ or ✗; exit 1 if something essential is missing.
    """
    try:
        from shardify.tools.doctor import examine

        findings = examine()
    except ImportError as error:
        raise ShardifyError(f"{error}; install all that shardify needs: pip install .") from error
    show(*findings)
    sys.exit(0 if all(finding.ok or not finding.is_essential for finding in findings) else 1)


COMMANDS = (info, preview, faces, verify, card, kaggle, doctor)
