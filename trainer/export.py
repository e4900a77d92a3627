"""The command `trainer.export`: a run's best model for other programs.

python -m trainer.export --run runs/x --format onnx
python -m trainer.export --run runs/x --format onnx --quantise
"""

from __future__ import annotations

from pathlib import Path

import click

from shardify.one_line_errors import failures_as_one_line
from shardify.terminal import escape_unprintable, show
from trainer.config.options import FOLDER, LOCAL, Command, model_option
from trainer.errors import SettingsError
from trainer.tools.export import SUFFIX, export
from trainer.tools.quantise import quantise


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--run", type=LOCAL, required=True, help="Folder of a finished run.")
@model_option
@click.option("--format", "kind", type=click.Choice(list(SUFFIX)), required=True)
@click.option("-o", "--out", type=LOCAL, help="[default: RUN/models/exported.SUFFIX]")
@click.option("--quantise", "is_smaller", is_flag=True, help="Of onnx: also write an int8 model, and compare them.")
@click.option(
    "--shards",
    type=FOLDER,
    multiple=True,
    help="For --quantise; may be repeated.  [default: what the run was trained on]",
)
def main(
    run: Path, model_class: str | None, kind: str, out: Path | None, is_smaller: bool, shards: tuple[Path, ...]
) -> None:
    """Write a run's best model as safetensors weights, a torch.export program or ONNX, and check its scores."""
    path = out or run / "models" / f"exported{SUFFIX[kind]}"
    with failures_as_one_line():
        if is_smaller and kind != "onnx":
            raise SettingsError(f"--quantise is for --format onnx, not for {kind}")
        difference = export(run, kind, path, model_class)
        click.echo(f"{path}: scores differ from the run's by at most {difference:.1e}")
        if is_smaller:
            show(*quantise(run, path, shards, model_class))


if __name__ == "__main__":
    escape_unprintable()
    main()
