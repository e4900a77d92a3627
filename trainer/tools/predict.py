"""The table that `trainer.predict` writes: a row for each video or picture."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click
from tqdm import tqdm

from shardify import text
from shardify.progress import shows_bars
from shardify.storage.local import rename
from shardify.storage.table import TableWriter

if TYPE_CHECKING:
    from trainer.tasks.predicting import Prediction

COLUMNS = ("source", "score", "prediction", "error")


@contextmanager
def open_target(path: Path | None) -> Iterator[TextIO]:
    """The terminal, or a file that has its name once it is complete; until then, or after a failure, PATH.part."""
    if path is None:
        yield sys.stdout
        return
    part = path.with_name(f"{path.name}.part")
    with part.open("w", newline="", encoding="utf-8") as file:
        try:
            yield file
        except BaseException:
            click.echo(f"the rows written so far are in {part}", err=True)
            raise
    rename(part, path)


def write_table(
    file: TextIO, heads: Mapping[str, Sequence[str]], predictions: Iterable[Prediction], total: int
) -> tuple[int, int]:
    """Write a row for each prediction; returns how many there are, and how many are of what could not be read.

    heads: the names of the classes of each head, the primary one first; none in regression. On a terminal a bar shows
    how many of `total` are done and the time left. Nothing in the rows is a formula for a spreadsheet, or on standard
    output a command for a terminal.
    """
    classes = next(iter(heads.values()), ())
    named = [*(f"score_{name}" for name in classes)] if len(classes) > 2 else []
    if len(heads) > 1:
        named += [f"{name}.{column}" for name in heads for column in ("class", "confidence")]
    writer = TableWriter(file, (*COLUMNS, *(("class", "confidence") if classes else ()), *named))
    count = failed = 0
    bar = tqdm(predictions, total=total, unit="video", disable=not shows_bars(), dynamic_ncols=True)
    for prediction in bar:
        row = row_of(prediction, classes)
        if file is sys.stdout:
            row = {name: text.printable(str(value)) for name, value in row.items()}
        with tqdm.external_write_mode():  # else the row would stand in the bar where both are on one terminal
            writer.write_row(row)
            file.flush()  # whoever waits for hours can read them, and a killed process loses none
        count, failed = count + 1, failed + bool(prediction.error)
    return count, failed


def row_of(prediction: Prediction, classes: Sequence[str]) -> dict[str, object]:
    """The cells of one prediction by their columns, as in test_predictions.csv; those of every class from three on.

    With several heads they are of the primary one, and every head has its class and confidence.
    """
    if prediction.error:
        return {"source": prediction.source, "error": prediction.error}
    if not classes:
        value = f"{prediction.score:.6g}"
        return {"source": prediction.source, "score": value, "prediction": value}
    return {
        "source": prediction.source,
        "score": f"{prediction.score:.6f}",
        "prediction": classes.index(prediction.class_name),
        "class": prediction.class_name,
        "confidence": f"{prediction.confidence:.6f}",
        **{f"score_{name}": f"{score:.6f}" for name, score in prediction.scores.items()},
        **{f"{name}.class": own.class_name for name, own in prediction.heads.items()},
        **{f"{name}.confidence": f"{own.confidence:.6f}" for name, own in prediction.heads.items()},
    }
