"""The page that compares the runs of a sweep, and the same numbers as a csv. It knows no kernels and no Dask.

The page holds the numbers once, as JSON; its table shows some rows at a time, so that ten thousand do not weigh.
"""

import csv
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path

from labkit.reports.html import SCRIPT, STYLE
from labkit.storage import atomic

LONGEST = 12  # values of a list in the results that get a column of their own
FIRST = ("run", "status")
LAST = ("seconds", "reason")


def columns(rows: Sequence) -> tuple[list[str], list[str], list[dict[str, object]]]:
    """Return the names of the parameters, of the results' numbers, and every run as one flat record.

    Args:
        rows: `labkit.reports.sweep.Row`s.
    """
    flat = [numbers(row.results or {}) for row in rows]
    names = list(dict.fromkeys(name for one in flat for name in one))
    chosen = list(dict.fromkeys(name for row in rows for name in row.values))
    records = []
    for row, results in zip(rows, flat, strict=True):
        record = {"run": row.name, "status": row.status}
        record |= {f"p:{name}": row.values.get(name) for name in chosen}
        record |= {f"r:{name}": results.get(name) for name in names}
        records.append(record | {"seconds": round(row.seconds, 1), "reason": row.reason})
    return chosen, names, records


def numbers(results: dict, before: str = "") -> dict[str, float]:
    """Every number in nested results, under its path: "median_by_depth.3"."""
    found: dict[str, float] = {}
    for key, value in results.items():
        name = f"{before}{key}"
        if isinstance(value, list) and len(value) <= LONGEST:
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
    chosen, names, records = columns(rows)
    page, table = page_of(folder, stem), folder / f"{stem}.csv"
    atomic.write(table, as_csv(chosen, names, records))
    atomic.write(page, as_page(stem, chosen, names, records))
    return page, table


def as_csv(chosen: list[str], names: list[str], records: list[dict]) -> str:
    """The records as a csv, a parameter and a result of one name kept apart."""
    heads = {f"p:{name}": name for name in chosen} | {f"r:{name}": name for name in names}
    heads |= {f"r:{name}": f"result {name}" for name in names if name in (*chosen, *FIRST, *LAST)}
    heads |= {f"p:{name}": f"parameter {name}" for name in chosen if name in (*FIRST, *LAST)}
    keys = [*FIRST, *heads, *LAST]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([safe(heads.get(key, key)) for key in keys])
    writer.writerows([safe(record[key]) for key in keys] for record in records)
    return text.getvalue()


def safe(value: object) -> object:
    """A text that a spreadsheet would take for a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value


def as_page(stem: str, chosen: list[str], names: list[str], records: list[dict]) -> str:
    """The records as a page: how many are done, a chart with menus, a table to sort and to search."""
    varying = [name for name in chosen if len({repr(record[f"p:{name}"]) for record in records}) > 1]
    done = sum(record["status"] == "done" for record in records)
    facts = {"varying": varying, "chosen": chosen, "results": names, "records": records}
    data = json.dumps(facts).replace("<", "\\u003c")  # no text of a run may end the script, or begin another
    bad = len(records) - done
    said = f"{len(records):,} runs: {done:,} done" + (f", <b>{bad:,} not</b> (sort by status)." if bad else ".")
    constant = (
        ", ".join(f"{name} {records[0][f'p:{name}']}" for name in chosen if name not in varying) if records else ""
    )
    return f"""<!DOCTYPE html>
<html lang='en'><head><meta charset='utf-8'><title>{html.escape(stem)}: the runs</title>
<meta name='viewport' content='width=device-width'><style>{STYLE}{LOOKS}</style><script src='{SCRIPT}'></script></head>
<body><h1>{html.escape(stem)}</h1><p>{said} The same in every run: {html.escape(constant) or "nothing"}.</p>
<p><label>across <select id='x'></select></label> <label>up <select id='y'></select></label>
<label>colour <select id='c'></select></label></p>
<div id='chart'></div><p><label>search <input id='find' type='search'></label> <span id='shown'></span></p>
<div class='wide'><table><thead></thead><tbody></tbody></table></div><p><button id='more'>show more</button></p>
<script>const FACTS = {data};
{BEHAVIOUR}</script></body></html>"""


LOOKS = """
#chart {height: 420px} .wide {overflow-x: auto} th {cursor: pointer; white-space: nowrap} th:focus {outline: 2px solid}
td.number {text-align: right; font-variant-numeric: tabular-nums} tr.bad td {background: #fdeeea}
"""
BEHAVIOUR = """
const at = id => document.getElementById(id), { varying, chosen, results, records } = FACTS;
const keys = ["run", "status", ...varying.map(n => "p:" + n), ...results.map(n => "r:" + n), "seconds", "reason"];
const label = key => key.replace(/^[pr]:/, "");
const offer = (id, keys, start) => {
  at(id).append(...keys.map(key => new Option(key === "" ? "none" : label(key), key, false, key === start)));
};
const across = varying.length ? varying : chosen;
offer("x", across.map(n => "p:" + n)); offer("y", [...results.map(n => "r:" + n), "seconds"]);
offer("c", ["", ...across.map(n => "p:" + n)], varying[1] ? "p:" + varying[1] : "");
function draw() {
  const [x, y, c] = ["x", "y", "c"].map(id => at(id).value), groups = new Map();
  for (const one of records.filter(one => one[y] !== null && one[y] !== undefined)) {
    const name = c ? label(c) + " " + one[c] : "runs";
    if (!groups.has(name)) groups.set(name, { name, x: [], y: [], text: [], mode: "markers", type: "scatter" });
    const group = groups.get(name);
    group.x.push(one[x]); group.y.push(+one[y]); group.text.push(one.run);
  }
  const layout = { margin: { t: 20 }, showlegend: c !== "", xaxis: { title: { text: label(x) } },
    yaxis: { title: { text: label(y) } }, plot_bgcolor: "#fafaf8" };
  if (window.Plotly) Plotly.react("chart", [...groups.values()], layout, { responsive: true });
}
let order = null, down = false, rows = 100;
const cell = (key, value) => {
  const td = document.createElement("td");
  if (key === "run") {
    const link = document.createElement("a");
    link.href = encodeURIComponent(value) + ".html"; link.textContent = value; td.append(link);
  } else if (typeof value === "number") {
    td.className = "number"; td.textContent = Number.isInteger(value) ? value : +value.toPrecision(4);
  } else td.textContent = value ?? "";
  return td;
};
function list() {
  const words = at("find").value.toLowerCase();
  let found = records.filter(one => !words || keys.some(key => String(one[key]).toLowerCase().includes(words)));
  const number = value => typeof value === "number";
  const compare = (a, b) => number(a) && number(b) ? a - b : String(a).localeCompare(b, "en", { numeric: true });
  const empty = value => value === null || value === undefined;
  if (order) found = [...found].sort((a, b) => empty(a[order]) || empty(b[order])
    ? empty(a[order]) - empty(b[order]) : (down ? -1 : 1) * compare(a[order], b[order]));
  document.querySelector("tbody").replaceChildren(...found.slice(0, rows).map(one => {
    const tr = document.createElement("tr");
    tr.className = one.status === "done" ? "" : "bad";
    tr.append(...keys.map(key => cell(key, one[key])));
    return tr;
  }));
  at("shown").textContent = Math.min(rows, found.length) + " of " + found.length;
  at("more").hidden = rows >= found.length;
}
const heads = document.createElement("tr");
for (const key of keys) {
  const th = document.createElement("th");
  th.textContent = label(key); th.tabIndex = 0; th.scope = "col";
  const sort = () => {
    down = order === key && !down; order = key;
    for (const each of heads.children) each.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", down ? "descending" : "ascending");
    list();
  };
  th.onclick = sort; th.onkeydown = event => { if (event.key === "Enter") sort(); };
  heads.append(th);
}
document.querySelector("thead").append(heads);
for (const id of ["x", "y", "c"]) at(id).onchange = draw;
at("find").oninput = list; at("more").onclick = () => { rows += 500; list(); };
draw(); list();
"""
