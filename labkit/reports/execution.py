"""A notebook executed by papermill: every cell saved on the way, its kernel ended, whatever stops it.

It judges nothing: it gives back the notebook, what ended the run before its time, and what the kernel knew.
"""

import ast
import contextlib
import copy
import logging
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from labkit.storage import atomic

PART = "labkit-part://"  # tells papermill's files on the way from others
OURS = "labkit-report"  # tag of the cell that stands at the top
TERMINATED = 143  # exit code
STALE = 7 * 24 * 3600  # seconds after which a socket that a killed run left is cleared away
UNFINISHED = "**Unfinished.** This is what a run has come to so far. If nothing is running any more, it was killed."
LOADED = "__import__('sys').modules"
FACTS = {  # what the kernel is asked once all is done; what it never imported, it is not made to import now
    "python": "__import__('platform').python_version()",
    "torch": f"{LOADED}['torch'].__version__ + ''",
    "labkit": f"{LOADED}['labkit'].__version__",
    "device": f"{LOADED}['labkit.core.devices'].choose(globals().get('device', 'auto')).device.type",
    "share": "spec.share()",
}


class Terminated(SystemExit):
    """Somebody sent SIGTERM. Of all exceptions asyncio lets this kind and Ctrl-C through, wherever they strike."""


@dataclass
class Execution:
    """What became of a notebook.

    Attributes:
        notebook: It, as far as it was executed (an nbformat node).
        ended: What stopped it before its time, or None.
        widgets: The states of its widgets, by their number.
        facts: Versions, device and share string, as far as the kernel got to the end.
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
    import papermill
    from nbformat.v4 import new_markdown_cell
    from papermill.engines import papermill_engines
    from papermill.iorw import papermill_io

    notebook = copy.deepcopy(source)
    notebook.cells.insert(0, new_markdown_cell(UNFINISHED, metadata={"tags": [OURS]}))
    done = Execution(notebook)
    engine = f"labkit-{id(done)}"  # of this run alone: a worker may have several
    papermill_engines.register(engine, _engine(done))
    papermill_io.register(PART, Parts())
    logging.getLogger("asyncio").addFilter(_is_news)
    address = f"{PART}{part.absolute()}".replace("{", "{{").replace("}", "}}")  # papermill formats paths
    until = time.monotonic() + seconds if seconds else None
    options = {
        "engine_name": engine,
        "kernel_name": source.metadata.get("kernelspec", {}).get("name", "python3"),
        "language": "python",  # of the cell with the parameters
        "progress_bar": False,
        "autosave_cell_every": 1,
        "start_timeout": 300,
        "iopub_timeout": 60,
        "extra_arguments": ["--log-level=CRITICAL"],  # a kernel that is stopped complains of its sockets
        "kernel_manager_class": _manager(),
        "resources": {"metadata": {"path": str(folder or "")}},  # papermill's cwd would move the whole process
        "timeout_func": lambda cell: max(1, until - time.monotonic()) if until else None,
    }
    over = threading.Event()
    with terminable():
        try:
            if unwanted:
                threading.Thread(target=_watch, args=(done, unwanted, over), daemon=True).start()
            papermill.execute_notebook(notebook, address, values, **options)
        except BaseException as ended:
            done.ended = ended
        finally:
            over.set()
            del papermill_engines._engines[engine]
    return done


def _watch(done: Execution, unwanted: Callable[[], bool], over: threading.Event) -> None:
    """Kill the kernel once nobody waits for it."""
    while not over.wait(1):
        if unwanted() and done.kernel is not None:
            done.kernel.provisioner.process.kill()
            return


def _is_news(record: logging.LogRecord) -> bool:
    """Whether asyncio says more than that nobody waits for a cell any longer: the verdict says why."""
    return "async_execute_cell" not in record.getMessage()


def _manager() -> type:
    """A kernel manager whose kernel listens to files of its own instead of ports: no two runs ever share one."""
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_core.paths import jupyter_runtime_dir

    place = jupyter_runtime_dir()
    _clear(place)
    with contextlib.suppress(OSError):  # of a home that cannot be written to: then ports will do
        os.makedirs(place, mode=0o700, exist_ok=True)
    sockets = os.path.join(place, f"labkit-{secrets.token_hex(6)}")
    short = os.name == "posix" and len(sockets) < 80  # a socket's name has at most about 100 letters
    files = short and os.access(place, os.W_OK)
    own = {"transport": "ipc", "ip": sockets, "connection_file": f"{sockets}.json"}
    return type("Manager", (AsyncKernelManager,), own if files else {})


def _clear(place: str) -> None:
    """Clear away what runs that were killed long ago left."""
    for left in Path(place).glob("labkit-*"):
        with contextlib.suppress(OSError):  # somebody else's, or cleared away meanwhile
            if time.time() - left.stat().st_mtime > STALE:
                left.unlink()


def _engine(done: Execution) -> type:
    """Make papermill's own engine, which leaves with `done` what it works on and what the kernel knows at the end."""
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine

    class Client(PapermillNotebookClient):
        def papermill_execute_cells(self) -> None:
            done.kernel = self.km
            try:
                super().papermill_execute_cells()
            finally:
                done.widgets = self.widget_state
            asked = self.kc.execute("", silent=True, store_history=False, user_expressions=FACTS)
            answers = self.wait_for_reply(asked)["content"]["user_expressions"]
            known = {name: answer for name, answer in answers.items() if answer["status"] == "ok"}
            done.facts = {name: ast.literal_eval(answer["data"]["text/plain"]) for name, answer in known.items()}

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man: object, kernel_name: str, **options: object) -> None:
            done.notebook = nb_man.nb
            options.pop("input_path", None)
            timeout = options.pop("start_timeout")
            options.pop("log_output")
            names = "stdout_file", "stderr_file", "execution_timeout"
            own = {name: value for name, value in options.items() if name not in names}
            Client(nb_man, kernel_name=kernel_name, startup_timeout=timeout, **own).execute()

    return Engine


class Parts:
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
