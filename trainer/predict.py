"""The command `trainer.predict`: scores for raw videos.

python -m trainer.predict --run runs/x video.mp4 folder/ --csv out.csv
"""

from __future__ import annotations

from pathlib import Path

import click

from shardify.one_line_errors import failures_as_one_line
from shardify.options import FiniteRange, LocalPath
from shardify.storage.local import check_writable
from shardify.terminal import escape_unprintable
from trainer.config.options import LOCAL, Command, devices_option, model_option
from trainer.devices.threads import bound_spinning
from trainer.errors import TrainerError
from trainer.tools.predict import open_target, write_table


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("videos", nargs=-1, required=True, type=LOCAL)
@click.option("--run", type=LOCAL, required=True, help="Folder of a finished run.")
@model_option
@click.option("--csv", "csv_path", type=LOCAL, help="Write here instead of to the terminal.")
@click.option("--boxes", type=LocalPath(path_type=Path, dir_okay=False), help="Crop boxes, as in `shardify build`.")
@click.option(
    "--faces-model", type=LocalPath(path_type=Path, dir_okay=False, exists=True), help="As in `shardify build`."
)
@devices_option
@click.option("--workers", type=click.IntRange(1), help="Decoding processes.  [default: one per core]")
@click.option("--timeout", type=FiniteRange(1), default=600, show_default=True, help="CPU seconds per video.")
def main(
    videos: tuple[Path, ...], run: Path, model_class: str | None, csv_path: Path | None, boxes: Path | None,
    faces_model: Path | None, devices: str, **decoding: float | None,
) -> None:  # fmt: skip
    """Score VIDEOS, videos, pictures or folders of them, with a run's best model.

    score: the probability of class 1 of two, else of the predicted class; prediction: the class's number; in
    regression both are the value. class, confidence: the predicted class's name and probability; of a run with several
    heads, all these are of the primary one, and HEAD.class and HEAD.confidence of each. What cannot be read
    has a row with the reason. The file of --csv grows as FILE.part and is renamed when it is complete.
    """
    with failures_as_one_line():
        try:
            from trainer.devices.distributed import num_devices
            from trainer.tools.trained_model import load_model

            if csv_path:
                check_writable(csv_path)
            model = load_model(run, "cuda" if num_devices(devices) else "cpu", model_class, faces_model)
            inputs = model.find(videos, boxes)
            predictions = model.predict_each(inputs, decoding["workers"], decoding["timeout"])
            with open_target(csv_path) as file:
                count, failed = write_table(file, model.heads, predictions, len(inputs))
            if (threshold := model.saved.video_threshold) is not None:
                name = model.classes[1]
                click.echo(f"{name} is predicted from a score of {threshold:.6f}, chosen on validation", err=True)
            if count == failed:
                raise TrainerError(f"none of {count} videos could be read; their rows say why")
        except ModuleNotFoundError as error:  # where only the trainer's needs are installed, as on Kaggle
            raise TrainerError(f"videos are decoded with {error.name}: pip install --no-deps {error.name}") from error


if __name__ == "__main__":
    escape_unprintable()
    bound_spinning()
    main()
