"""The content of evaluation.json as tables: of text for a terminal, and of rows for other programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from shardify.storage.table import table_bytes
from shardify.text import table_lines
from trainer.evaluation.metrics import Measures

COLUMNS = ("data_set", "level", "kind", "figure", "value", "low", "high")
MEAN = "(mean)"  # in place of a data set or a kind
ITEMS = {"clip": "clips", "video": "videos"}  # what the figures of a level are of
NO_TEMPERATURE = "validation gave none: it lacks a class, or its clips are all right, or no better than chance"

Entry = Mapping[str, object]  # of one data set
Table = tuple[Sequence[str], list[Sequence[str]]]  # columns and rows, as text


def evaluation_csv(record: Mapping) -> bytes:
    """A row for each data set, level, kind ("" for all) and figure, and for the means over data sets and kinds."""
    rows = []
    for name, entry in [*record["data_sets"].items(), (MEAN, {**record["mean"], "kinds": {}, "kinds_mean": {}})]:
        for kind, levels in (("", entry), *entry["kinds"].items(), (MEAN, entry["kinds_mean"])):
            for level in ITEMS:
                for figure, found in levels.get(level, {}).items():
                    low, high = found["interval"] or ("", "")
                    values = (name, level, kind, figure, "" if found["value"] is None else found["value"], low, high)
                    rows.append(dict(zip(COLUMNS, values, strict=True)))
    return table_bytes(COLUMNS, rows)


def evaluation_lines(record: Mapping) -> Iterator[str]:
    """All tables of an evaluation, as lines."""
    for name, entry in record["data_sets"].items():
        yield from ("", heading(name, entry))
        for title, table in data_set_tables(entry, record["headline"]):
            yield from ("", title, *text_lines(table))
        if note := calibration_note(entry):
            yield from ("", note)
    if len(record["data_sets"]) > 1:
        for title, table in comparison_tables(record):
            yield from ("", title, *text_lines(table))


def heading(name: str, entry: Entry) -> str:
    """What a data set's figures are of."""
    of = f"{entry['clips']} clips" if is_one_clip_each(entry) else f"{entry['clips']} clips of {entry['videos']} videos"
    return f"{name}, {entry['split']}: {of}; {_thresholds(entry)}loss {entry['loss']:.4f}"


def is_one_clip_each(entry: Entry) -> bool:
    """Whether the figures of videos are those of their clips."""
    return entry["clips"] == entry["videos"] and entry["threshold"] == entry["video_threshold"]


def data_set_tables(entry: Entry, headline: str) -> Iterator[tuple[str, Table]]:
    """The title and the table of the figures of one data set, of its kinds and of its classes, where it has any.

    headline: the figure of which kinds are shown.
    """
    levels = ["clip"] if is_one_clip_each(entry) else list(ITEMS)
    titles = [ITEMS[level] for level in levels]
    yield (
        "Figures",
        (
            ["", *titles],
            [[figure, *(_shown(entry[level][figure]) for level in levels)] for figure in entry["clip"]],
        ),
    )
    if kinds := entry["kinds"]:
        rows = [(name, found) for name, found in kinds.items()] + [("mean", entry["kinds_mean"])]
        yield (
            f"Kinds, each against all of the other class: {headline}",
            (
                ["kind", *titles],
                [[name, *(_shown(found[level][headline]) for level in levels)] for name, found in rows],
            ),
        )
    if classes := entry["classes"]:
        columns = list(next(iter(classes.values())))
        yield (
            "Classes, by clips",
            (
                ["class", *columns],
                [[name, *(_number(found[column]) for column in columns)] for name, found in classes.items()],
            ),
        )
    if robustness := entry.get("robustness"):
        rows = [
            [name, f"{strength:g}", *(_number(found[level]) for level in levels)]
            for name, strengths in robustness.items()
            for strength, found in strengths.items()
        ]
        yield f"Robustness: {headline} of degraded clips", (["degradation", "strength", *titles], rows)


def robustness_csv(record: Mapping) -> bytes:
    """A row for each data set, degradation, strength and level, with the main figure."""
    rows = [
        {"data_set": name, "degradation": degradation, "strength": strength, "level": level, record["headline"]: value}
        for name, entry in record["data_sets"].items()
        for degradation, strengths in entry["robustness"].items()
        for strength, found in strengths.items()
        for level, value in found.items()
    ]
    return table_bytes(list(rows[0]), rows)


def comparison_tables(record: Mapping) -> Iterator[tuple[str, Table]]:
    """The title and the table of all data sets and their mean, of clips and, where these differ, of videos."""
    entries = record["data_sets"]
    is_same = all(is_one_clip_each(entry) for entry in entries.values())
    for level in ["clip"] if is_same else ITEMS:
        figures = list(record["mean"][level])
        rows = [(name, entry[level]) for name, entry in entries.items()] + [("mean", record["mean"][level])]
        table = [[name, *(_number(found[figure]["value"]) for figure in figures)] for name, found in rows]
        yield f"All data sets, by {ITEMS[level]}", (["", *figures], table)


def calibration_note(entry: Entry) -> str:
    """A line on temperature scaling, "" where there are no probabilities."""
    if not (found := entry["calibration"]):
        return ""
    before, after = (
        f"Brier score {found[name]['brier']:.4f}, calibration error {found[name]['calibration_error']:.4f}"
        for name in ("before", "after")
    )
    if found["temperature"] == 1:
        return f"temperature 1 ({NO_TEMPERATURE}): {before}"
    use = "which is applied to all scores here" if found["is_applied"] else "not applied: train with calibrate=true"
    return f"temperature {found['temperature']:.3f}, fitted on validation ({use}): {before} before, {after} after"


def text_lines(table: Table) -> list[str]:
    """A table's lines; set to the left, where figures with and without intervals stand below each other."""
    columns, rows = table
    return table_lines([columns, *rows], align=str.ljust)


def _thresholds(entry: Entry) -> str:
    clip, video = entry["threshold"], entry["video_threshold"]
    if clip is None:
        return ""
    return (
        f"threshold {clip:.4f}; "
        if is_one_clip_each(entry)
        else f"threshold {clip:.4f} of clips, {video:.4f} of videos; "
    )


def _shown(found: Measures) -> str:
    interval = found["interval"]
    return _number(found["value"]) + (f" ({interval[0]:.4f} to {interval[1]:.4f})" if interval else "")


def _number(value: float | None) -> str:
    return "undefined" if value is None else str(value) if isinstance(value, int) else f"{value:.4f}"
