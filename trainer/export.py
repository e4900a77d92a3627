"""The command `trainer.export`: a run's best model for other programs.

python -m trainer.export --run runs/x --format onnx
"""

from __future__ import annotations

from pathlib import Path

import click

from shardify.one_line_errors import failures_as_one_line
from shardify.terminal import escape_unprintable
from trainer.options import Command, model_option
from trainer.tools.export import SUFFIX, export


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--run", type=click.Path(path_type=Path), required=True, help="Folder of a finished run.")
@model_option
@click.option("--format", "kind", type=click.Choice(list(SUFFIX)), required=True)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="[default: RUN/models/exported.SUFFIX]")
def main(run: Path, model_class: str | None, kind: str, out: Path | None) -> None:
    """Write a run's best model as safetensors weights, a torch.export program or ONNX, and check its scores."""
    path = out or run / "models" / f"exported{SUFFIX[kind]}"
    with failures_as_one_line():
        difference = export(run, kind, path, model_class)
    click.echo(f"{path}: scores differ from the run's by at most {difference:.1e}")


if __name__ == "__main__":
    escape_unprintable()
    main()
