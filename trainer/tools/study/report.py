"""What a study leaves: study.json for programs, study.md for people, a picture of the closest pairs."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from shardify.storage.local import write_atomically
from shardify.text import table_lines
from trainer.tools.study.arms import CONTROL
from trainer.tools.study.similarity import MOST

Row = Sequence[str]
ARMS = ("arm", "pictures", "accuracy", "95% over seeds", "difference", "95%", "p (Holm)", "against real")
SIMILARITY = ("pictures of", "count", "KID", "precision", "recall", "agreement", "spread", "near train")
PAIRS_A_ROW, GAP = 8, 4  # of the picture of pairs; pixels between them

MEANING = """
The arms differ in what they train on, and in nothing else: the same classifier, as many steps, the same seeds,
{chosen}, judged on test once. The interval of an accuracy is Student's t over {seeds} seeds. Differences are paired;
their intervals come from a bootstrap over seeds and over recordings, and their p-values are corrected for the number of
arms (Holm). Only these words are used: *helps* or *hurts* where p is below 0.05, else *no difference shown*, which does
not mean that there is none.
"""
OF_CONTROL = """
`real_again` is the control: `real` once more with other seeds, so what differs between the two is chance alone. It asks
nothing about synthetic pictures, so it is not among the arms that p is corrected for, and its own p is as it was found.
"""
BEST = "the best of {evaluations} evaluations on val"
LAST = "the weights after the last step (there is no val to choose by, so nothing is called best)"
OF_SIMILARITY = """
KID (kernel distance), precision, recall, agreement and spread are by the features of this study's own classifier, the
first one of the arm `real`, so they compare with nothing outside this study. KID, precision and recall are against
test, of at most {most} pictures of each. Agreement: how often that classifier sees the class that was asked for;
pictures that all look alike have it, too. Spread: the mean distance from a class's mean. Near train: the share of
pictures that lie as close to a picture of train, in thumbnails, as the closest 1% of {new} do; much more than 1% says
that training pictures are repeated.{real}
"""
OF_REAL = " The row `real` is val: what as good as real comes to."


def write_report(out: Path, record: Mapping) -> None:
    """study.json and study.md. record: the content of the first one."""
    chosen = (BEST if record["evaluations"] else LAST).format(**record)
    parts = ["# Study", *_markdown(arm_rows(record)), MEANING.format(**record, chosen=chosen).strip()]
    if CONTROL in record["arms"]:
        parts.append(OF_CONTROL.strip())
    if record["synthetic"]:
        new, real = ("val", OF_REAL) if record["evaluations"] else ("test", "")
        parts += [
            "## Synthetic pictures beside real ones",
            *_markdown(similarity_rows(record)),
            OF_SIMILARITY.format(most=MOST, new=new, real=real).strip(),
        ]
        names = [name for name in record["similarity"] if (out / f"closest-{name}.png").is_file()]
        parts += [f"The closest pairs of {name}, each above its picture of train:\n\n![{name}](closest-{name}.png)"
                  for name in names]  # fmt: skip
    write_atomically(out / "study.md", ("\n\n".join(parts) + "\n").encode())
    write_atomically(out / "study.json", (json.dumps(record, indent=1, allow_nan=False) + "\n").encode())


def study_lines(record: Mapping) -> Iterator[str]:
    """The tables as lines of a terminal."""
    yield from table_lines(arm_rows(record))
    if record["synthetic"]:
        yield ""
        yield from table_lines(similarity_rows(record))


def arm_rows(record: Mapping) -> list[Row]:
    """The table of the arms, its head first."""
    rows = [ARMS]
    for name, arm in record["arms"].items():
        compared = arm["verdict"] is not None
        p = arm["p"] if arm["p_adjusted"] is None else arm["p_adjusted"]
        rows.append((
            name, str(arm["pictures"]), f"{arm['accuracy']:.3f}", _interval(arm["interval"]),
            f"{arm['difference']:+.3f}" if compared else "", _interval(arm["difference_interval"], "+"),
            f"{p:.4f}" if compared else "", arm["verdict"] or "",
        ))  # fmt: skip
    return rows


def similarity_rows(record: Mapping) -> list[Row]:
    """The table of synthetic and real pictures, its head first."""
    rows = [SIMILARITY]
    for name, found in record["similarity"].items():
        figures = [found[figure] for figure in ("kid", "precision", "recall", "agreement")]
        shown = ["" if value is None else f"{value:.3f}" for value in figures]
        rows.append((name, str(found["pictures"]), *shown, f"{found['spread']:.2f}", f"{found['near_neighbours']:.1%}"))
    return rows


def _interval(limits: Sequence[float] | None, sign: str = "") -> str:
    return f"{limits[0]:{sign}.3f} to {limits[1]:{sign}.3f}" if limits else ""


def _markdown(rows: Iterable[Row]) -> list[str]:
    head, *others = rows
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *others]
    return ["\n".join(f"| {' | '.join(row)} |" for row in lines)]


def draw_pairs(values: np.ndarray, pairs: Sequence[tuple[int, int]], path: Path) -> None:
    """A picture of pairs, the first of each above the second; values: uint8 (M, 3, S, S), by the pairs' places."""
    size = values.shape[-1]
    rows = -(-len(pairs) // PAIRS_A_ROW)
    sheet = np.full((rows * (2 * size + 2 * GAP), PAIRS_A_ROW * (size + GAP), 3), 255, np.uint8)
    for i, pair in enumerate(pairs):
        top, left = i // PAIRS_A_ROW * (2 * size + 2 * GAP), i % PAIRS_A_ROW * (size + GAP)
        sheet[top : top + 2 * size, left : left + size] = np.concatenate(values[list(pair)].transpose(0, 2, 3, 1))
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())
