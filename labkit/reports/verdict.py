"""How a run of a notebook ended, judged by what was executed, and what its `results` cell says."""

import ast
import math
import re
from dataclasses import dataclass

from labkit.reports.execution import FAILED, INTERRUPTED, KERNEL_DIED, OK, TERMINATED, Execution, is_error, tagged

RESULTS = "results"  # tag of the cell whose dict is read back
THREAD_ERROR = re.compile(r"^Exception in thread .*:\nTraceback", re.M)
ENDINGS = {  # what ended papermill → exit code, status, reason
    "DeadKernelError": (KERNEL_DIED, "kernel died", "the kernel died in cell {cell}: killed, or out of memory."),
    "CellTimeoutError": (FAILED, "out of time", "the time{limit} ran out in cell {cell}."),
    "KeyboardInterrupt": (INTERRUPTED, "interrupted", "somebody pressed Ctrl-C during cell {cell}."),
    "Terminated": (TERMINATED, "terminated", "the run was told to end (SIGTERM) during cell {cell}."),
}
UNREAD = (
    f"the cell tagged {RESULTS!r} shows no dictionary of plain values, so that nothing in it can be read: end it with "
    "one, such as {'loss': 0.5, 'diverged': None}."
)
CUT_SHORT = f"the cell tagged {RESULTS!r} shows more than a thousand values, which IPython cuts short: keep fewer."
SEVERAL = f"several cells are tagged {RESULTS!r}: tag one, the last."


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


def judge(done: Execution, seconds: float | None, results: dict[str, object], unread: str) -> Verdict:
    """Return how a run ended.

    Args:
        done: What became of the notebook.
        seconds: The most that it was to take.
        results: What its `results` cell says.
        unread: Why that cannot be read, if it was reached and cannot.
    """
    ended, kind = done.ended, type(done.ended).__name__
    cells = code_cells(done.notebook)
    unfinished = [k for k, cell in enumerate(cells, 1) if not _was_run(cell)]
    here, missing = (unfinished or [0])[0], len(unfinished)
    if kind in ENDINGS:
        code, status, reason = ENDINGS[kind]
        limit = f" of {seconds:g} s" if seconds else ""
        return Verdict(code, status, reason.format(cell=here or len(cells), limit=limit), here, missing)
    errors = ((k, output) for k, cell in enumerate(cells, 1) for output in cell.outputs if is_error(cell, output))
    for k, output in errors:
        return _failed(f"cell {k} raised {_in_a_line(output.ename, output.evalue)}.", k, missing)
    if missing:
        why = f" ({_in_a_line(kind, ended)})" if ended is not None else ""
        return _failed(f"the run ended in cell {here}, before the notebook did{why}.", here, missing)
    if ended is not None:
        return _failed(f"{_in_a_line(kind, ended)}.")
    hidden = _hidden_error(done, cells)
    if hidden:
        return hidden
    if unread:
        return _failed(unread, next(k for k, cell in enumerate(cells, 1) if tagged(cell, RESULTS)))
    step = results.get("diverged")
    if step is None or step is False:
        return Verdict()
    where = "" if step is True else f" at step {step}"
    return Verdict(FAILED, "diverged", f"the results say that the training diverged{where}.")


def _failed(reason: str, cell: int = 0, missing: int = 0) -> Verdict:
    return Verdict(FAILED, "failed", reason, cell, missing)


def _hidden_error(done: Execution, cells: list) -> Verdict | None:
    """An error that no cell shows as its own: in a thread, or inside a widget."""
    for k, cell in enumerate(cells, 1):
        for output in cell.outputs:
            if output.output_type == "stream" and output.name == "stderr" and THREAD_ERROR.search(output.text):
                return _failed(f"a thread of cell {k} ended with {output.text.strip().splitlines()[-1]}.", k)
    for state in done.widgets.values():
        for output in state.get("outputs", []):
            if output["output_type"] == "error":
                return _failed(f"a widget's output holds {_in_a_line(output['ename'], output['evalue'])}.")
    return None


def code_cells(notebook: dict) -> list:
    """Return the code cells of a notebook."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _was_run(cell: dict) -> bool:
    """Whether a code cell was run to its end; there is nothing to run in an empty one."""
    return not cell.source.strip() or cell.metadata.papermill.status in ("completed", "failed")


def _in_a_line(kind: str, said: object) -> str:
    """The kind of an error, and the first line with a letter of what it says."""
    line = next((line.strip() for line in str(said).splitlines() if re.search(r"\w", line)), "").removesuffix(".")
    return f"{kind}: {line}" if line else kind


def results_of(notebook: dict) -> tuple[dict[str, object], str]:
    """Return what the cell tagged `results` says, and why it cannot be read, if it was reached and cannot.

    Args:
        notebook: An executed notebook.
    """
    cells = [cell for cell in code_cells(notebook) if tagged(cell, RESULTS)]
    if not cells or not all(map(_was_run, cells)):
        return {}, ""
    if len(cells) > 1:
        return {}, SEVERAL
    texts = [output.data.get("text/plain", "") for output in cells[0].outputs if output.output_type == "execute_result"]
    try:
        said = ast.literal_eval(_PlainValues().visit(ast.parse(texts[-1], mode="eval")))
    except (ValueError, TypeError, SyntaxError, IndexError, RecursionError, MemoryError) as error:
        cut = isinstance(error, SyntaxError | Cut) and "..." in texts[-1]
        return {}, CUT_SHORT if cut else UNREAD
    return (said, "") if isinstance(said, dict) else ({}, UNREAD)


class Cut(ValueError):
    """Dots stand where values were."""


class _PlainValues(ast.NodeTransformer):
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


def as_json(value: object) -> object:
    """Return results as JSON has them: what is not finite becomes nothing, keys become text."""
    if isinstance(value, dict):
        return {str(key): as_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [as_json(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
