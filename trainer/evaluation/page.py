"""The page of an evaluation: its tables and pictures in one HTML file that needs no other."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from pathlib import Path

from trainer.evaluation.tables import Table, calibration_note, comparison_tables, data_set_tables, heading

HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Evaluation</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; color: #222; background: #f5f5f3; margin: 2rem auto; max-width: 1180px;
  padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.15rem; margin-top: 2.2rem } h3 { font-size: 1rem; margin-bottom: .4rem }
img { max-width: 100%; background: #fff; border: 1px solid #ddd; border-radius: 6px }
div { overflow-x: auto }
table { border-collapse: collapse; background: #fff; font-variant-numeric: tabular-nums }
th, td { border: 1px solid #ddd; padding: .25rem .6rem; text-align: left; white-space: nowrap }
</style>
"""


def evaluation_page(record: Mapping, pictures: list[Path]) -> str:
    """The HTML of what evaluation.json holds, and of pictures; those that could not be made are left out."""
    parts = [HEAD, f"<h1>Evaluation of {html.escape(record['run'])}</h1>"]
    parts.append("<p>In brackets: 95% intervals, whole groups resampled. Thresholds were chosen on validation.</p>")
    if len(record["data_sets"]) > 1:
        parts += [_table(*named) for named in comparison_tables(record)]
    parts += [_picture(path) for path in pictures if path.is_file()]
    for name, entry in record["data_sets"].items():
        parts.append(f"<h2>{html.escape(heading(name, entry))}</h2>")
        parts += [_table(*named) for named in data_set_tables(entry, record["headline"])]
        parts.append(f"<p>{html.escape(calibration_note(entry))}</p>")
    return "\n".join(parts) + "\n</html>\n"


def _table(title: str, table: Table) -> str:
    columns, rows = table
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<h3>{html.escape(title)}</h3>\n<div><table><tr>{head}</tr>\n{body}</table></div>"


def _picture(path: Path) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    return f'<p><img alt="{path.stem}" src="data:image/png;base64,{content}"></p>'
