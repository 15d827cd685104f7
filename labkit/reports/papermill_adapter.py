"""The one module that leans on papermill's insides: how it starts a kernel, saves on the way and marks cells."""

import ast
import contextlib
import json
from collections.abc import Callable
from pathlib import Path

from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.execute import ERROR_MARKER_TAG, execute_notebook
from papermill.iorw import papermill_io

from labkit.storage import atomic

ENGINE = "labkit"
PART = "labkit-part://"  # tells papermill which files it saves by `PartFile`
LOADED = "__import__('sys').modules"
FACTS = {  # what the kernel is asked once all is done; what it never imported, it is not made to import now
    "python": "__import__('platform').python_version()",
    "torch": f"{LOADED}['torch'].__version__ + ''",
    "labkit": f"{LOADED}['labkit'].__version__",
    "device": f"{LOADED}['labkit.core.devices'].choose(globals().get('device', 'auto')).device.type",
    "share": "spec.share()",
}


def run(execution: object, values: dict[str, object], part: Path, **options: object) -> None:
    """Let papermill execute a notebook.

    Args:
        execution: A `labkit.reports.execution.Execution` with the notebook; the rest of it is filled in.
        values: The parameters to put in.
        part: Where to save it after every cell.
        options: What nbclient's client is to be told.

    Raises:
        BaseException: whatever ended the run before its time.
    """
    address = f"{PART}{part.absolute()}".replace("{", "{{").replace("}", "}}")  # papermill formats paths
    execute_notebook(
        execution.notebook,
        address,
        values,
        engine_name=ENGINE,
        kernel_name=execution.notebook.metadata.get("kernelspec", {}).get("name", "python3"),
        language="python",  # of the cell with the parameters
        progress_bar=False,
        autosave_cell_every=1,
        execution=execution,
        options=options,
    )


def mark(notebook: dict, outcome: Callable[[dict], str]) -> None:
    """Write the outcome of every cell where papermill, whatever stopped it, has "completed"."""
    cells = [cell for cell in notebook.cells if ERROR_MARKER_TAG not in cell.metadata.get("tags", [])]
    found = [outcome(cell) for cell in cells]
    for cell, word in zip(cells, found, strict=True):
        cell.metadata.setdefault("papermill", {})["status"] = word
    first = next((word for word in found if word != "completed"), "completed")
    notebook.metadata.setdefault("papermill", {}).update(status=first, exception=first != "completed" or None)


class Client(PapermillNotebookClient):
    """papermill's client, which keeps in `execution` its kernel, the widgets, and what the kernel knows at the end."""

    execution = None

    def papermill_execute_cells(self) -> None:
        """Execute the cells."""
        self.execution.kernel = self.km
        try:
            super().papermill_execute_cells()
        finally:
            self.execution.widgets = self.widget_state
        written = {name: f"__import__('json').dumps({fact})" for name, fact in FACTS.items()}
        asked = self.kc.execute("", silent=True, store_history=False, user_expressions=written)
        answers = self.wait_for_reply(asked)["content"]["user_expressions"]
        known = {
            name: ast.literal_eval(answer["data"]["text/plain"])
            for name, answer in answers.items()
            if answer["status"] == "ok"
        }
        self.execution.facts = {name: json.loads(text, parse_constant=lambda _: None) for name, text in known.items()}


class Engine(NBClientEngine):
    """papermill's own engine with our client."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: object, kernel_name: str, *, execution: object, options: dict, **unused: object
    ) -> None:
        """Execute a notebook."""
        execution.notebook = nb_man.nb
        nb_man.nb.metadata.papermill["input_path"] = None  # papermill has the whole notebook here
        client = Client(nb_man, kernel_name=kernel_name, **options)
        client.execution = execution
        client.execute()


class PartFile:
    """Where papermill saves on the way: whole or not at all, and a full disk does not end the run."""

    def read(self, path: str) -> str:
        """Read what was saved."""
        return Path(path.removeprefix(PART)).read_text(encoding="utf-8")

    def write(self, text: str, path: str) -> None:
        """Save in one move."""
        with contextlib.suppress(OSError):  # the report itself is written at the end, and complains then
            atomic.write(Path(path.removeprefix(PART)), text)

    def pretty_path(self, path: str) -> str:
        """Name the file for a log."""
        return path.removeprefix(PART)


papermill_engines.register(ENGINE, Engine)
papermill_io.register(PART, PartFile())
