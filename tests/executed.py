"""A notebook run by papermill, and the errors in it that papermill does not see."""

import ast
import json
import os
import re
import subprocess
import symtable
import sys

import nbformat

from labkit.reports.parameters import declared, load


def tagged(notebook, tag):
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def apart(source, folder):
    """What keeps the files that a notebook writes out of the lab, and makes it write them anew."""
    return {"out": str(folder / "written")} if "out" in declared(load(source)) else {}


class Report:
    """A notebook that papermill has run."""

    def __init__(self, source, out, parameters, cwd, seconds=300):
        self.out = out
        command = [sys.executable, "-m", "papermill", "--no-progress-bar", str(source), str(out)]
        for key, value in parameters.items():
            command += ["-p", key, str(value)]
        # Two run at a time: threads that spin while they wait would keep each other from the cores.
        env = os.environ | {"IPYTHONDIR": str(out.parent / "ipython"), "OMP_WAIT_POLICY": "PASSIVE"}
        self.done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=seconds)

    def check(self):
        """Fail with what went wrong, if anything did."""
        assert self.done.returncode == 0, self.done.stderr[-3000:]
        assert not self.hidden_errors(), self.hidden_errors()
        assert self.out.stat().st_size < 1_000_000
        assert longest(json.loads(self.out.read_text())) < 200_000  # the screen's JavaScript, and nothing of plotly.js
        return self

    def notebook(self):
        return nbformat.read(self.out, as_version=4)

    def hidden_errors(self):
        """Errors that papermill takes no notice of: in a thread, or caught by a widget."""
        notebook, found = self.notebook(), []
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                text = output.get("text", "")
                if output.output_type == "error" or (output.output_type == "stream" and "Traceback" in text):
                    found.append(text or output.evalue)
        for state in notebook.metadata.get("widgets", {}).values():
            for model in state["state"].values():
                found += [o["evalue"] for o in model["state"].get("outputs", []) if o["output_type"] == "error"]
        return found

    def results(self):
        (cell,) = tagged(self.notebook(), "results")
        return ast.literal_eval(cell.outputs[-1].data["text/plain"])


def longest(value):
    """The length of the longest string in a JSON value."""
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list):
        return max(map(longest, value), default=0)
    return len(value) if isinstance(value, str) else 0


def excerpt(source, **choices):
    """A copy of a notebook with its labs and explorers, the cells that these lean on, and other parameters alone."""
    notebook = nbformat.read(source, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = [cell for cell in cells if re.search(r"labkit\.explore\(|labkit\.Lab\(|\blab\.run\(", cell.source)]
    (parameters,) = tagged(notebook, "parameters")
    kept, before = [parameters, *shown], cells[: cells.index(shown[-1])]
    while more := [cell for cell in before if cell not in kept and _bound(cell) & set().union(*map(_used, kept))]:
        kept += more
    chosen = nbformat.v4.new_code_cell("\n".join(f"{name} = {value!r}" for name, value in choices.items()))
    below = [cell for cell in cells if cell in kept and cell is not parameters]
    notebook.cells = [notebook.cells[0], parameters, chosen, *below]
    return notebook


def _bound(cell):
    """The names that a cell gives a value."""
    table = symtable.symtable(cell.source, "cell", "exec")
    return {each.get_name() for each in table.get_symbols() if each.is_assigned() or each.is_imported()}


def _used(cell):
    """The names that a cell needs from those above it, also inside its functions."""
    todo, found = [symtable.symtable(cell.source, "cell", "exec")], set()
    while todo:
        table = todo.pop()
        todo += table.get_children()
        found |= {each.get_name() for each in table.get_symbols() if each.is_referenced() and each.is_global()}
    changed = [each.target for each in ast.walk(ast.parse(cell.source)) if isinstance(each, ast.AugAssign)]
    return found - _bound(cell) | {each.id for each in changed if isinstance(each, ast.Name)}
