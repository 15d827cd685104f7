"""A notebook executed by papermill: every cell saved on the way, its kernel ended, whatever stops it.

Nothing is judged here: what comes back is the notebook, what ended the run early, and what the kernel knew.
"""

import contextlib
import copy
import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

OK, FAILED, REFUSED, LOCKED, INTERRUPTED, KERNEL_DIED, TERMINATED = 0, 1, 2, 3, 130, 138, 143  # exit codes
TOP = "labkit-report"  # tag of the cell that stands at the top
MEANT = "raises-exception"  # tag of a cell that is to fail
UNFINISHED = "**Unfinished.** This is what a run has come to so far. If nothing is running any more, it was killed."


class Terminated(SystemExit):
    """Somebody sent SIGTERM; asyncio lets only this kind of exception, and Ctrl-C, through from anywhere."""


@dataclass
class Execution:
    """What became of a notebook.

    Attributes:
        notebook: The notebook as far as it was executed (an nbformat node); `metadata.papermill.status` of each cell
            is "completed", "failed", "interrupted" or "pending".
        ended: What stopped it before its time, or None.
        widgets: The states of its widgets, by their number.
        facts: Versions, device and share string, if the kernel got to the end.
        kernel: Its manager, once it is there.
    """

    notebook: dict
    ended: BaseException | None = None
    widgets: dict = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    kernel: object = None


def execute(
    source: dict,
    values: dict[str, object],
    part: Path,
    seconds: float | None = None,
    folder: Path | None = None,
    unwanted: Callable[[], bool] | None = None,
) -> Execution:
    """Execute a notebook; nothing is raised, not even Ctrl-C, so that what was finished can be kept.

    Args:
        source: The notebook, as an nbformat node.
        values: The parameters to put in.
        part: Where to save it after every cell.
        seconds: The most that all of it may take.
        folder: Where the kernel works; by default where this process does.
        unwanted: Asked every second whether nobody waits for it any more; then the kernel is killed.
    """
    from labkit.reports import papermill_adapter

    done = Execution(_fresh(source))
    logging.getLogger("asyncio").addFilter(_is_news)
    until = time.monotonic() + seconds if seconds else None
    over = threading.Event()
    with terminable():
        try:
            if unwanted:
                threading.Thread(target=_watch, args=(done, unwanted, over), daemon=True).start()
            with tempfile.TemporaryDirectory(prefix="labkit-", ignore_cleanup_errors=True) as place:
                papermill_adapter.run(
                    done,
                    values,
                    part,
                    startup_timeout=300,
                    iopub_timeout=60,
                    extra_arguments=["--log-level=CRITICAL"],  # a kernel that is stopped complains of its sockets
                    kernel_manager_class=_manager(place),
                    resources={"metadata": {"path": str(folder or "")}},  # papermill's cwd would move the whole process
                    timeout_func=lambda cell: max(1, until - time.monotonic()) if until else None,
                )
        except BaseException as ended:
            done.ended = ended
        finally:
            over.set()
    papermill_adapter.mark(done.notebook, outcome)
    return done


def _fresh(source: dict) -> dict:
    """A copy without what an earlier run left, under a cell that says that it is unfinished."""
    from nbformat.v4 import new_markdown_cell

    notebook = copy.deepcopy(source)
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.cells = [cell for cell in notebook.cells if not tagged(cell, TOP)]
    notebook.cells.insert(0, new_markdown_cell(UNFINISHED, metadata={"tags": [TOP]}))
    return notebook


def outcome(cell: dict) -> str:
    """Return what became of a cell, by whether the kernel took it and answered; papermill's own word is not asked."""
    if not cell.metadata.get("papermill", {}).get("start_time"):
        return "pending"
    if not _answered(cell):
        return "interrupted"
    return "failed" if any(is_error(cell, output) for output in cell.get("outputs", [])) else "completed"


def _answered(cell: dict) -> bool:
    """Whether the kernel answered; text and an empty cell need no answer."""
    silent = cell.cell_type != "code" or not cell.source.strip()
    return silent or "shell.execute_reply" in cell.metadata.get("execution", {})


def is_error(cell: dict, output: dict) -> bool:
    """Whether an output is an error that its cell was not meant to raise."""
    return output.output_type == "error" and not tagged(cell, MEANT)


def tagged(cell: dict, tag: str) -> bool:
    """Whether a cell has a tag."""
    return tag in cell.metadata.get("tags", [])


def _watch(done: Execution, unwanted: Callable[[], bool], over: threading.Event) -> None:
    """Kill the kernel once nobody waits for it."""
    while not over.wait(1):
        if unwanted() and done.kernel is not None:
            done.kernel.provisioner.process.kill()
            return


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a message of asyncio's is more than that a cell is no longer awaited, which the verdict explains."""
    return "async_execute_cell" not in record.getMessage()


def _manager(place: str) -> type:
    """A kernel manager whose kernel listens to files of its own instead of ports: no two runs ever share one."""
    from jupyter_client.manager import AsyncKernelManager

    sockets = os.path.join(place, "kernel")
    files = os.name == "posix" and len(sockets) < 80  # a socket's name has at most about 100 letters
    own = {"transport": "ipc", "ip": sockets, "connection_file": f"{sockets}.json"}
    return type("Manager", (AsyncKernelManager,), own if files else {})


def terminable() -> contextlib.AbstractContextManager:
    """Turn SIGTERM, and a terminal that closes, into an exception: what is finished is written, the kernel ended."""

    def end(number: int, frame: object) -> None:
        raise Terminated(TERMINATED)

    ends = [signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
        ends.append(signal.SIGHUP)
    return _handled(dict.fromkeys(ends, end))


def undisturbed() -> contextlib.AbstractContextManager:
    """Let neither Ctrl-C nor SIGTERM come between, for the seconds in which a report is written."""
    return _handled(dict.fromkeys((signal.SIGINT, signal.SIGTERM), signal.SIG_IGN))


@contextlib.contextmanager
def _handled(handlers: dict) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # Python tells signals to that one alone
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
