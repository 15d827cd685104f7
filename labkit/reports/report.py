"""One notebook run by papermill into a report that tells the truth: what was executed, what was not, and why.

It knows no widgets. papermill's own word on a cell is not asked: a killed kernel, a time limit and Ctrl-C leave
every cell "completed" there. What counts is whether the kernel took a cell and answered.
"""

import ast
import hashlib
import json
import math
import os
import re
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from labkit.core.spec import CSV
from labkit.reports import parameters
from labkit.reports.execution import OURS, TERMINATED, Execution, execute, undisturbed
from labkit.storage import atomic

MEANT = "raises-exception"  # tag of a cell that is to fail
RESULTS = "results"  # tag of the cell whose dict is read back
OK, FAILED, REFUSED, HELD, INTERRUPTED, DIED = 0, 1, 2, 3, 130, 138  # exit codes, and execution.TERMINATED
IN_THREAD = re.compile(r"^Exception in thread .*:\nTraceback", re.M)


@dataclass(frozen=True)
class Verdict:
    """How a run of a notebook ended.

    Attributes:
        code: The exit code: 0, 1, 130, 138 or 143.
        status: "done", "failed", "diverged", "out of time", "kernel died", "interrupted", "terminated" or "running".
        reason: What happened, in a sentence; nothing where all is well.
        cell: The code cell in which it happened, counted from 1; 0 where it was in none.
        missing: How many code cells were not run to their end.
    """

    code: int = OK
    status: str = "done"
    reason: str = ""
    cell: int = 0
    missing: int = 0


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
        notebook: The notebook's file.
        values: Parameters that differ from the notebook's own.
        out: The folder for both files; they are named by the notebook and a hash of its parameters.
        seconds: The most that the run may take.
        single_file: Put plotly.js into the page instead of beside it.

    Raises:
        ValueError: if a parameter is not allowed, or there is no such notebook; nothing was touched then.
        OutputLocked: if another run holds the output.
    """
    source = parameters.load(Path(notebook))
    chosen = parameters.checked(source, values or {})
    return Runner(Path(notebook), source, chosen, Path(out), single_file).run(seconds)


def name_of(notebook: Path, values: Mapping[str, object]) -> str:
    """The files' name: the notebook's, and a short hash of every parameter."""
    text = json.dumps(values, sort_keys=True, default=repr)
    return f"{notebook.stem}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def fingerprint(source: dict) -> str:
    """A short hash of what a notebook does: its code."""
    code = [cell.get("source") for cell in source["cells"] if cell.get("cell_type") == "code"]
    return hashlib.sha256(json.dumps(["".join(each) for each in code]).encode()).hexdigest()[:16]


class Runner:
    """Runs one notebook once.

    Args:
        notebook: Its file, for its name.
        source: It, as plain JSON.
        chosen: The checked parameters that differ from its own.
        out: The folder of the reports.
        single_file: Put plotly.js into the page.
        folder: Where the kernel works; by default where this process does.
        given: What the kernel is given, where that is not `chosen` itself: a csv that travelled lies elsewhere.
        home: The folder that the report will be carried to, where it is not `out`.
        unwanted: Asked now and then whether nobody waits for the report any more; then its run is ended.
    """

    def __init__(
        self,
        notebook: Path,
        source: dict,
        chosen: dict[str, object],
        out: Path,
        single_file: bool = False,
        folder: Path | None = None,
        given: dict[str, object] | None = None,
        home: Path | None = None,
        unwanted: Callable[[], bool] | None = None,
    ) -> None:
        self.file, self.source, self.chosen, self.single_file = notebook, source, chosen, single_file
        self._unwanted = unwanted
        self.folder, self._given, self._home = folder, chosen if given is None else given, home or out
        self.values = {name: each.default for name, each in parameters.declared(source).items()} | chosen
        self.name = name_of(notebook, self.values)
        self.notebook, self.page = out / f"{self.name}.ipynb", out / f"{self.name}.html"

    @property
    def command(self) -> str:
        """What makes this report again."""
        words = ["labkit", "report", str(self.file)]
        for name, value in self.chosen.items():
            words += ["-p", name, str(value)]
        return shlex.join([*words, "--out", str(self._home)])

    def run(self, seconds: float | None = None) -> Report:
        """Run it and write both files, whatever happens on the way.

        Raises:
            OutputLocked: if another run holds the output.
            OSError: if the files cannot be written; earlier ones are whole then.
        """
        self.notebook.parent.mkdir(parents=True, exist_ok=True)
        with atomic.lock(self.notebook):
            began = time.perf_counter()
            self._tables = prints_of(tables_of(self.values | self._given, self.folder))
            self._done = self._execute(seconds)
            took = time.perf_counter() - began
            results, unread = results_of(self._done.notebook)
            verdict = self._judge(seconds, results, unread)
            with undisturbed():
                self._finish(verdict, results, took)
                self._part.unlink(missing_ok=True)
        return Report(self.notebook, self.page, verdict, self.values, results, took)

    @property
    def _part(self) -> Path:
        """What was finished so far, while it runs; and for good where nobody was left to write the report."""
        return self.notebook.with_name(f"{self.name}.part.ipynb")

    def _execute(self, seconds: float | None) -> Execution:
        import nbformat

        node = nbformat.v4.upgrade(nbformat.reads(json.dumps(self.source), as_version=4))
        node.metadata["labkit"] = {"status": "running", "values": self.values}
        return execute(node, self._given, self._part, seconds, self.folder, self._unwanted)

    def _finish(self, verdict: Verdict, results: dict[str, object], seconds: float) -> None:
        """Write the notebook and its page, with what they are at the top."""
        import nbformat

        from labkit.reports import html
        from labkit.reports.stills import stills

        done, folder = html.stripped(self._done.notebook), self.notebook.parent
        done.cells = [cell for cell in done.cells if OURS not in cell.metadata.get("tags", [])]
        done.metadata["labkit"] = {
            **asdict(verdict), "values": self.values, "results": _plain(results), "seconds": seconds,
            "source": fingerprint(self.source), "tables": self._tables, **self._done.facts,
        }  # fmt: skip
        top = nbformat.v4.new_markdown_cell(self._top(verdict, seconds), metadata={"tags": [OURS]})
        done.cells.insert(0, top)
        if not self.single_file and not (folder / html.SCRIPT).exists():
            atomic.write(folder / html.SCRIPT, html.get_plotlyjs())
        text = nbformat.writes(nbformat.v4.upgrade(done))
        hurry = verdict.code in (INTERRUPTED, TERMINATED)  # somebody waits for the end
        pictures, why = ([], "the run was stopped") if hurry else stills(html.figures(done))
        page = html.page(done, self.name, single_file=self.single_file, stills=pictures, no_still=why)
        atomic.write_together({self.notebook: text, self.page: page})

    def _top(self, verdict: Verdict, seconds: float) -> str:
        """What stands at the top of the report."""
        from labkit.reports import html

        known = parameters.declared(self.source)
        given = ", ".join(f"{name} {value}" for name, value in self.chosen.items()) or "as the notebook comes"
        rest = ", ".join(f"{name} {value}" for name, value in self.values.items() if name not in self.chosen)
        facts = self._done.facts
        versions = ", ".join(f"{name} {facts[name]}" for name in ("labkit", "torch", "python") if name in facts)
        rows = {
            "notebook": self.file.name,
            "parameters": given,
            "the rest" if self.chosen else "which are": rest if known else "",
            "took": f"{seconds:.0f} s, on {time.strftime('%Y-%m-%d at %H:%M')}",
            "device": facts.get("device", "unknown: the kernel did not get to the end"),
            "versions": versions,
            "seed": str(self.values.get("seed", "")),
            "share string": facts.get("share", ""),
            "made by": self.command,
        }
        left = f" {verdict.missing} of its code cells did not run to their end." if verdict.missing else ""
        banner = f"{verdict.status.capitalize()}: {verdict.reason}{left}" if verdict.code else ""
        return html.head(banner, rows)

    def _judge(self, seconds: float | None, results: dict[str, object], unread: str) -> Verdict:
        """Say how the run ended, by what was executed."""
        ended = self._done.ended
        cells = [cell for cell in self._done.notebook.cells if cell.cell_type == "code"]
        answered = [_answered(cell) for cell in cells]
        here = next((k for k, done in enumerate(answered, 1) if not done), 0)
        missing = answered.count(False)
        errors = ((k, output) for k, cell in enumerate(cells, 1) for output in cell.outputs if _is_error(cell, output))
        error = next(errors, None)
        kind = type(ended).__name__
        if kind in ENDINGS:
            code, status, reason = ENDINGS[kind]
            took = f" of {seconds:g} s" if seconds else ""
            return Verdict(code, status, reason.format(cell=here or len(cells), limit=took), here, missing)
        if error is not None:
            return Verdict(FAILED, "failed", f"cell {error[0]} raised {_words(error[1])}.", error[0], missing)
        if missing:
            why = f" ({_first(kind, ended)})" if ended is not None else ""
            reason = f"the run ended in cell {here}, before the notebook did{why}."
            return Verdict(FAILED, "failed", reason, here, missing)
        if ended is not None:
            return Verdict(FAILED, "failed", f"{_first(kind, ended)}.", 0, 0)
        hidden = self._hidden(cells)
        if hidden:
            return Verdict(FAILED, "failed", hidden[1], hidden[0], 0)
        if unread:
            return Verdict(FAILED, "failed", unread, _place(cells), 0)
        step = results.get("diverged")
        if step is not None and step is not False:
            where = "" if step is True else f" at step {step}"
            return Verdict(FAILED, "diverged", f"the results say that the training diverged{where}.", 0, 0)
        return Verdict()

    def _hidden(self, cells: list) -> tuple[int, str] | None:
        """An error that no cell shows as its own: in a thread, or inside a widget."""
        for k, cell in enumerate(cells, 1):
            for output in cell.outputs:
                if output.output_type == "stream" and output.name == "stderr" and IN_THREAD.search(output.text):
                    return k, f"a thread of cell {k} ended with {output.text.strip().splitlines()[-1]}."
        for state in self._done.widgets.values():
            for output in state.get("outputs", []):
                if output["output_type"] == "error":
                    return 0, f"a widget's output holds {output['ename']}: {output['evalue']}."
        return None


ENDINGS = {  # what ended papermill → exit code, status, reason
    "DeadKernelError": (DIED, "kernel died", "the kernel died in cell {cell}: killed, or out of memory."),
    "CellTimeoutError": (FAILED, "out of time", "the time{limit} ran out in cell {cell}."),
    "KeyboardInterrupt": (INTERRUPTED, "interrupted", "somebody pressed Ctrl-C during cell {cell}."),
    "Terminated": (TERMINATED, "terminated", "the run was told to end (SIGTERM) during cell {cell}."),
}
ADVICE = "end it with one, such as {'loss': 0.5, 'diverged': None}."
UNREAD = f"the cell tagged {RESULTS!r} shows no dictionary of plain values, so that nothing in it can be read: {ADVICE}"
LONG = f"the cell tagged {RESULTS!r} shows more than a thousand values, which IPython cuts short: keep fewer of them."
TWICE = f"several cells are tagged {RESULTS!r}: tag one, the last."


def results_of(notebook: dict) -> tuple[dict[str, object], str]:
    """What the cell tagged `results` says, and why it cannot be read, if it was reached and cannot.

    Args:
        notebook: An executed notebook.
    """
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and RESULTS in cell.metadata.get("tags", [])]
    if not cells or not all(map(_answered, cells)):
        return {}, ""
    if len(cells) > 1:
        return {}, TWICE
    texts = [output.data.get("text/plain", "") for output in cells[0].outputs if output.output_type == "execute_result"]
    try:
        said = ast.literal_eval(_Plain().visit(ast.parse(texts[-1], mode="eval")))
    except (ValueError, TypeError, SyntaxError, IndexError, RecursionError, MemoryError) as error:
        cut = isinstance(error, SyntaxError | Cut) and "..." in texts[-1]
        return {}, LONG if cut else UNREAD
    return (said, "") if isinstance(said, dict) else ({}, UNREAD)


def tables_of(values: Mapping[str, object], folder: Path | None = None) -> dict[str, bytes]:
    """The bytes of each table that a notebook is given and that is there, by the name of its parameter."""
    texts = {name: value for name, value in values.items() if isinstance(value, str) and value.startswith(CSV)}
    paths = {name: Path(folder or "", text.removeprefix(CSV)) for name, text in texts.items()}
    return {name: path.read_bytes() for name, path in paths.items() if path.is_file()}


def prints_of(tables: Mapping[str, bytes]) -> dict[str, str]:
    """A short hash of each table."""
    return {name: hashlib.sha256(content).hexdigest()[:16] for name, content in tables.items()}


class Cut(ValueError):
    """Dots stand where values were."""


class _Plain(ast.NodeTransformer):
    """Makes plain values of what a dictionary shows of NumPy's numbers, and nothing of what is not finite."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if node.value is Ellipsis:
            raise Cut
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Constant(None) if node.id in ("nan", "inf") else node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        inner = self.visit(node.operand)
        return inner if isinstance(inner, ast.Constant) and inner.value is None else node  # -inf

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        return ast.Constant(node.attr == "True_") if node.attr in ("True_", "False_") else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        numpys = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "np"
        return self.visit(node.args[0]) if numpys and len(node.args) == 1 and not node.keywords else node


def _place(cells: list) -> int:
    """Which of the code cells, counted from 1, is tagged `results`."""
    return next(k for k, cell in enumerate(cells, 1) if RESULTS in cell.metadata.get("tags", []))


def _answered(cell: dict) -> bool:
    """Whether the kernel took a cell and answered; an empty one needs no answer."""
    return not cell.source.strip() or "shell.execute_reply" in cell.metadata.get("execution", {})


def _is_error(cell: dict, output: dict) -> bool:
    """Whether a cell failed that was not meant to."""
    return output.output_type == "error" and MEANT not in cell.metadata.get("tags", [])


def _words(output: dict) -> str:
    return _first(output.ename, output.evalue)


def _first(kind: str, said: object) -> str:
    """The kind of an error, and the first line with a letter of what it says."""
    line = next((line.strip() for line in str(said).splitlines() if re.search(r"\w", line)), "").removesuffix(".")
    return f"{kind}: {line}" if line else kind


def _plain(value: object) -> object:
    """Results as JSON has them: what is not finite becomes nothing, keys become text."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
