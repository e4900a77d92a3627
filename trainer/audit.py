"""The command `trainer.audit`: whether figures on a data set would promise too much.

python -m trainer.audit --shards shards/
"""

from __future__ import annotations

from pathlib import Path

import click

from shardify.one_line_errors import failures_as_one_line
from shardify.terminal import escape_unprintable, show
from trainer.config.options import FOLDER, Command


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--shards", type=FOLDER, required=True, help="Folder made by `shardify build`.")
@click.option("--extra", type=FOLDER, multiple=True, help="As data.extra; may be repeated.")
def main(shards: Path, extra: tuple[Path, ...]) -> None:
    """Warn where the files' metadata alone distinguish the classes, and where a random split would flatter."""
    with failures_as_one_line():
        from trainer.shards.extra import add_extra
        from trainer.shards.shard_set import open_shards
        from trainer.tools.audit import audit
        from trainer.tools.split_audit import audit_split

        opened = open_shards(shards)
        whole, _, notes = add_extra(opened, {"train": opened.numbers("train")}, extra)
        show(*notes, *audit(whole), *audit_split(opened))


if __name__ == "__main__":
    escape_unprintable()
    main()
