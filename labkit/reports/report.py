"""One notebook run by papermill into a report that tells the truth: what was executed, what was not, and why."""

import hashlib
import json
import os
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from labkit.core.spec import CSV
from labkit.reports import parameters
from labkit.reports.execution import INTERRUPTED, TERMINATED, TOP, Execution, execute, tagged, undisturbed
from labkit.reports.verdict import Verdict, as_json, judge, results_of
from labkit.storage import atomic


@dataclass(frozen=True)
class Report:
    """A notebook that was run.

    Attributes:
        notebook: The executed notebook.
        page: The same as an HTML page.
        verdict: How the run ended.
        values: Every parameter's value.
        results: What the notebook's `results` cell says; empty where it was not reached.
        seconds: How long it took, its kernel's start included.
    """

    notebook: Path
    page: Path
    verdict: Verdict
    values: dict[str, object]
    results: dict[str, object]
    seconds: float

    def __repr__(self) -> str:
        why = f": {self.verdict.reason}" if self.verdict.reason else ""
        return f"Report {self.notebook}: {self.verdict.status} after {self.seconds:.0f} s{why}"


def report(
    notebook: str | os.PathLike,
    values: Mapping[str, object] | None = None,
    *,
    out: str | os.PathLike = "reports",
    seconds: float | None = None,
    single_file: bool = False,
) -> Report:
    """Run a notebook with papermill and write what came out, as a notebook and as a page.

    Args:
        notebook: The notebook's file; an earlier report runs again with its own parameters.
        values: Parameters that differ from the notebook's own.
        out: The folder for both files; they are named by the notebook and a hash of its parameters.
        seconds: The most that the run may take.
        single_file: Put plotly.js into the page instead of beside it.

    Raises:
        ValueError: if a parameter is not allowed, or there is no such notebook; nothing was touched then.
        OutputLocked: if another run holds the output.
    """
    parameters.check_limits(seconds)
    source = parameters.load(Path(notebook))
    chosen = parameters.checked(source, values or {})
    return Runner(Path(notebook), source, chosen, Path(out), single_file).run(seconds)


def name_of(notebook: Path, values: Mapping[str, object]) -> str:
    """Return the files' name: the notebook's, and a short hash of every parameter."""
    text = json.dumps(values, sort_keys=True, default=repr)
    return f"{notebook.stem}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def fingerprint(source: dict) -> str:
    """Return a short hash of what a notebook does: its code."""
    code = [cell.get("source") for cell in source["cells"] if cell.get("cell_type") == "code"]
    return hashlib.sha256(json.dumps(["".join(each) for each in code]).encode()).hexdigest()[:16]


def tables_of(values: Mapping[str, object], folder: Path | None = None) -> dict[str, bytes]:
    """Return the bytes of each table that a notebook is given and that is there, by the name of its parameter."""
    texts = {name: value for name, value in values.items() if isinstance(value, str) and value.startswith(CSV)}
    paths = {name: Path(folder or "", text.removeprefix(CSV)) for name, text in texts.items()}
    return {name: path.read_bytes() for name, path in paths.items() if path.is_file()}


def prints_of(tables: Mapping[str, bytes]) -> dict[str, str]:
    """Return a short hash of each table."""
    return {name: hashlib.sha256(content).hexdigest()[:16] for name, content in tables.items()}


@dataclass(frozen=True)
class Errand:
    """What is different where a worker makes the report for a sweep.

    Attributes:
        folder: Where the kernel works; by default where this process does.
        given: What the kernel is given besides the chosen parameters: a csv that travelled lies elsewhere.
        home: The folder that the report will be carried to; by default where it is written.
        unwanted: Asked every second whether nobody waits for the report any more; then its run is ended.
    """

    folder: Path | None = None
    given: Mapping[str, object] | None = None
    home: Path | None = None
    unwanted: Callable[[], bool] | None = None


class Runner:
    """Runs one notebook once.

    Args:
        file: The notebook's file, for its name.
        source: The notebook, as `labkit.reports.parameters.load` returns it.
        chosen: The checked parameters that differ from its own.
        out: The folder of the reports.
        single_file: Put plotly.js into the page.
        errand: What is different on a worker of a sweep.
    """

    def __init__(
        self,
        file: Path,
        source: dict,
        chosen: dict[str, object],
        out: Path,
        single_file: bool = False,
        errand: Errand = Errand(),
    ) -> None:
        self.file, self.source, self.chosen, self.errand = file, source, chosen, errand
        self._single_file, self._home = single_file, errand.home or out
        self.values = {name: each.default for name, each in parameters.declared(source).items()} | chosen
        self._given = chosen | (errand.given or {})
        name = name_of(file, self.values)
        self.name, self.notebook, self.page = name, out / f"{name}.ipynb", out / f"{name}.html"
        self._part = out / f"{name}.part.ipynb"  # stays where nobody was left to write the report

    @property
    def command(self) -> str:
        """What makes this report again."""
        words = ["labkit", "report", str(self.file)]
        for name, value in self.chosen.items():
            words += ["-p", name, str(value)]
        return shlex.join([*words, "--out", str(self._home)])

    def run(self, seconds: float | None = None) -> Report:
        """Run the notebook and write both files, whatever happens on the way.

        Raises:
            OutputLocked: if another run holds the output.
            OSError: if the files cannot be written; earlier ones are whole then.
        """
        self.notebook.parent.mkdir(parents=True, exist_ok=True)
        with atomic.lock(self.notebook):
            began = time.perf_counter()
            tables = prints_of(tables_of(self.values | self._given, self.errand.folder))
            done = self._execute(seconds)
            results, unread = results_of(done.notebook)
            verdict = judge(done, seconds, results, unread)
            made = Report(self.notebook, self.page, verdict, self.values, results, time.perf_counter() - began)
            with undisturbed():
                self._write(made, done, tables)
                self._part.unlink(missing_ok=True)
        return made

    def _execute(self, seconds: float | None) -> Execution:
        import nbformat

        node = nbformat.v4.upgrade(nbformat.reads(json.dumps(self.source), as_version=4))
        node.metadata["labkit"] = {"status": "running", "values": self.values}
        return execute(node, self._given, self._part, seconds, self.errand.folder, self.errand.unwanted)

    def _write(self, made: Report, done: Execution, tables: dict[str, str]) -> None:
        """Write the notebook and its page, with what they are at the top."""
        import nbformat

        from labkit.reports import html
        from labkit.reports.stills import stills

        shown, folder = html.stripped(done.notebook), self.notebook.parent
        shown.metadata["labkit"] = {
            **asdict(made.verdict), "values": self.values, "results": as_json(made.results), "seconds": made.seconds,
            "source": fingerprint(self.source), "tables": tables, **done.facts,
        }  # fmt: skip
        shown.metadata.papermill |= {"input_path": str(self.file), "output_path": str(self._home / self.notebook.name)}
        top = nbformat.v4.new_markdown_cell(self._top(made, done.facts), metadata={"tags": [TOP]})
        shown.cells = [top, *(cell for cell in shown.cells if not tagged(cell, TOP))]
        if not self._single_file and not (folder / html.SCRIPT).exists():
            atomic.write(folder / html.SCRIPT, html.get_plotlyjs())
        text = nbformat.writes(nbformat.v4.upgrade(shown))
        hurry = made.verdict.code in (INTERRUPTED, TERMINATED)  # somebody waits for the end
        pictures, why = ([], "the run was stopped") if hurry else stills(html.figures(shown))
        page = html.page(shown, self.name, single_file=self._single_file, stills=pictures, no_still=why)
        atomic.write_together({self.notebook: text, self.page: page})

    def _top(self, made: Report, facts: dict[str, str]) -> str:
        """What stands at the top of the report."""
        from labkit.reports import html

        rest = {name: value for name, value in self.values.items() if name not in self.chosen}
        rows = {
            "notebook": self.file.name,
            "parameters": _listed(self.chosen) or "as the notebook comes",
            "the rest" if self.chosen else "which are": _listed(rest),
            "took": f"{made.seconds:.0f} s, on {time.strftime('%Y-%m-%d at %H:%M')}",
            "device": facts.get("device", "unknown: the kernel did not get to the end"),
            "versions": _listed({name: facts[name] for name in ("labkit", "torch", "python") if name in facts}),
            "seed": str(self.values.get("seed", "")),
            "share string": facts.get("share", ""),
            "made by": self.command,
        }
        verdict = made.verdict
        left = f" {verdict.missing} of its code cells did not run to their end." if verdict.missing else ""
        return html.head(f"{verdict.status.capitalize()}: {verdict.reason}{left}" if verdict.code else "", rows)


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
