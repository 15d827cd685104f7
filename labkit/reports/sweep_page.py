"""The page that compares the runs of a sweep, and the same numbers as a csv.

Both are made from one list of columns. The page holds the numbers once, as JSON; its table shows some rows at a time,
so that it stays light with ten thousand.
"""

import csv
import html
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from labkit.reports.html import SCRIPT, as_script, static
from labkit.storage import atomic

LONGEST_LIST = 12  # values of a list in the results that get a column of their own
FORMULA_SIGNS = ("=", "+", "-", "@")
# label → kind, value of a row; parameters and results stand between "status" and "seconds"
FIXED: dict[str, tuple[str, Callable[[Any], object]]] = {
    "run": ("run", attrgetter("name")),
    "status": ("status", attrgetter("status")),
    "seconds": ("measure", lambda row: round(row.seconds, 1)),
    "reason": ("note", attrgetter("reason")),
}


@dataclass(frozen=True)
class Column:
    """One column of the table.

    Attributes:
        label: Its head.
        kind: What the page does with it: "run", "status", "parameter" (across, colour), "measure" (up) or "note".
        values: One for each run.
    """

    label: str
    kind: str
    values: list[object]

    @property
    def varies(self) -> bool:
        """Whether it says more than one thing."""
        return len(set(map(repr, self.values))) > 1


def columns(rows: Sequence) -> list[Column]:
    """Return the columns of a table of runs, a parameter and a result of one name kept apart.

    Args:
        rows: `labkit.reports.sweep.Row`s.
    """
    fixed = [Column(label, kind, list(map(value, rows))) for label, (kind, value) in FIXED.items()]
    chosen = _named("parameter", [row.values for row in rows], FIXED)
    results = _named("result", [numbers(row.results or {}) for row in rows], [*FIXED, *(each.label for each in chosen)])
    return [*fixed[:2], *chosen, *results, *fixed[2:]]


def _named(what: str, records: list[dict], taken: Sequence[str]) -> list[Column]:
    """A column for each name in the records; a label that is taken says what it is of."""
    kind = "measure" if what == "result" else what
    names = dict.fromkeys(name for record in records for name in record)
    labels = {name: f"{what} {name}" if name in taken else name for name in names}
    return [Column(label, kind, [record.get(name) for record in records]) for name, label in labels.items()]


def numbers(results: dict, before: str = "") -> dict[str, float]:
    """Return every number in nested results, under its path: "median_by_depth.3"."""
    found: dict[str, float] = {}
    for key, value in results.items():
        name = f"{before}{key}"
        if isinstance(value, list) and len(value) <= LONGEST_LIST:
            value = dict(enumerate(value))
        if isinstance(value, dict):
            found |= numbers(value, f"{name}.")
        elif isinstance(value, int | float):
            found[name] = value  # a bool is 0 or 1 to a chart
    return found


def page_of(folder: Path, stem: str) -> Path:
    """Return where the page of a notebook's sweep lies."""
    return folder / f"{stem}.index.html"


def write(folder: Path, stem: str, rows: Sequence) -> tuple[Path, Path]:
    """Write `stem.index.html` and `stem.csv`, and return their paths."""
    table = columns(rows)
    page, csv_file = page_of(folder, stem), folder / f"{stem}.csv"
    atomic.write(csv_file, as_csv(table))
    atomic.write(page, as_page(stem, table))
    return page, csv_file


def as_csv(table: list[Column]) -> str:
    """Return the columns as a csv."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([safe(column.label) for column in table])
    writer.writerows(map(safe, record) for record in _records(table))
    return text.getvalue()


def _records(table: list[Column]) -> list[tuple]:
    return list(zip(*(column.values for column in table), strict=True))


def safe(value: object) -> object:
    """Return a value with an apostrophe before it, if it is a text that a spreadsheet would take for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_SIGNS) else value


def as_page(stem: str, table: list[Column]) -> str:
    """Return the columns as a page: how many runs are done, a chart with menus, a table to sort and to search."""
    chosen = [column for column in table if column.kind == "parameter"]
    varying = [column.label for column in chosen if column.varies]
    shown = [column for column in table if column.kind != "parameter" or not varying or column.label in varying]
    heads = [{"label": column.label, "kind": column.kind} for column in shown]
    states = next(column.values for column in table if column.kind == "status")
    done, bad = states.count("done"), len(states) - states.count("done")
    said = f"{len(states):,} runs: {done:,} done" + (f", <b>{bad:,} not</b> (sort by status)." if bad else ".")
    constant = [column for column in chosen if column.label not in varying]
    same = ", ".join(f"{column.label} {column.values[0]}" for column in constant)
    return f"""<!DOCTYPE html>
<html lang='en'><head><meta charset='utf-8'><title>{html.escape(stem)}: the runs</title>
<meta name='viewport' content='width=device-width'><style>{static("report.css")}{static("sweep.css")}</style>
<script src='{SCRIPT}'></script></head>
<body><h1>{html.escape(stem)}</h1><p>{said} The same in every run: {html.escape(same) or "nothing"}.</p>
<p><label>across <select id='x'></select></label> <label>up <select id='y'></select></label>
<label>colour <select id='colour'></select></label></p>
<div id='chart'></div><p><label>search <input id='find' type='search'></label> <span id='shown'></span></p>
<div class='wide'><table><thead></thead><tbody></tbody></table></div><p><button id='more'>show more</button></p>
<script>const SWEEP = {as_script({"columns": heads, "records": _records(shown)})};
{static("sweep.js")}</script></body></html>"""
