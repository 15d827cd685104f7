"""The campaign of faults: real ones, injected into reports, sweeps and trainings. `make faults` prints their counts.

tests/test_faults.py runs a few of each kind. Whatever is done to a report, five things must hold: what lies on the
disk can be read, it says what happened, the exit code is right, no process is left, and where no report
could be written the earlier one is as it was.
"""

import contextlib
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import nbformat
import psutil

TESTS = Path(__file__).parent
PARAMETERS = 'depth: int = 3  # hidden layers\nname: str = "a"  # what to call it\nseed: int = 0  # the seed'
RESULTS = '{"depth": depth, "twice": 2 * depth, "diverged": None}'
GRACE = 50  # seconds that a process may still be there: ten times the target, for a machine that is busy
WAIT = "import time\ntime.sleep(100)"


def written(folder: Path, *cells: str, results: str = RESULTS, kernel: str = "python3") -> Path:
    """Write a small notebook: its parameters, some cells, its results."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in (PARAMETERS, *cells, results)]
    )
    notebook.cells[0].metadata.tags, notebook.cells[-1].metadata.tags = ["parameters"], ["results"]
    notebook.metadata.kernelspec = {"name": kernel, "display_name": kernel, "language": "python"}
    path = folder / "small.ipynb"
    nbformat.write(notebook, path)
    return path


def command(path: Path, out: Path, *more: str) -> list[str]:
    """The words that make a report."""
    return [sys.executable, "-m", "labkit", "report", str(path), "--out", str(out), *more]


@dataclass
class Fault:
    """One thing that goes wrong with a report.

    Attributes:
        cells: The notebook's cells; `{mark}` is a file that one of them makes once it is there.
        code: The exit code that is due; a set where the fault may strike before or after the run.
        status: What the report must say; nothing where there is nobody left to write one.
        strike: What is done to the process, given it, the mark, a source of chance and the seconds of a sound run.
        more: Further words of the command.
        results: The notebook's last cell.
        before: What the process does before it runs the command, as Python.
        limit: Called in the process before it starts.
        kernel: The kernel that the notebook asks for.
    """

    cells: list[str]
    code: int | set[int]
    status: str | None
    strike: Callable | None = None
    more: tuple[str, ...] = ()
    results: str = RESULTS
    before: str = ""
    limit: Callable | None = None
    kernel: str = "python3"


def _later(number: int) -> Callable:
    """Send a signal at a random time, from the first import to the last file."""

    def strike(process: subprocess.Popen, mark: Path, rng: random.Random, seconds: float) -> None:
        time.sleep(rng.uniform(0.0, seconds))
        process.send_signal(number)

    return strike


def _in_the_cell(number: int) -> Callable:
    """Send a signal while a cell runs."""

    def strike(process: subprocess.Popen, mark: Path, rng: random.Random, seconds: float) -> None:
        _await(mark, process)
        time.sleep(rng.uniform(0.0, 1.0))
        process.send_signal(number)

    return strike


def _kill_kernel(process: subprocess.Popen, mark: Path, rng: random.Random, seconds: float) -> None:
    _await(mark, process)
    time.sleep(rng.uniform(0.0, 1.0))
    for kernel in kernels(psutil.Process(process.pid).children(recursive=True)):
        kernel.kill()


def _await(mark: Path, process: subprocess.Popen) -> None:
    until = time.monotonic() + 60
    while not mark.exists():
        assert process.poll() is None and time.monotonic() < until, process.communicate()
        time.sleep(0.02)


def _small_files(size: int) -> Callable:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


KILL_AT = """
import os, re, signal
real = os.replace
def replace(source, target):
    struck = re.search({which!r}, str(target))
    if struck and {early}:
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)
    if struck:
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = replace
"""
WRITES = {  # which of a report's files is being moved into place, and whether the earlier report stands before that
    r"\.part\.ipynb$": True,
    r"-[0-9a-f]{12}\.ipynb$": True,
    r"\.html$": False,  # the notebook is there by then
}


def _killed_while_writing(rng: random.Random) -> Fault:
    which, early = rng.choice(list(WRITES)), rng.random() < 0.5
    untouched = "part" in which or (early and WRITES[which])
    return Fault(SHORT, -9, None if untouched else "any", before=KILL_AT.format(which=which, early=early))


BIG = "print('x' * 300_000)"
WIDER = "print('<' * 60_000)"  # a page needs four letters for each of these
MARK = "open({mark!r}, 'w').close()"
SLOW = ["print('finished')", f"{MARK}\n{WAIT}"]
SHORT = ["print('finished')", "import time\ntime.sleep(1)"]
THREAD = "import threading\nt = threading.Thread(target=lambda: 1 / 0)\nt.start()\nt.join()"
WIDGET = "import ipywidgets\nout = ipywidgets.Output()\nwith out:\n    raise KeyError('in a widget')\nout"
MEMORY = (
    "import resource\nnow = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
    "resource.setrlimit(resource.RLIMIT_AS, (now + 2**28, -1))\nx = bytearray(2**30)"
)
NAN = (
    "import labkit\nrun = labkit.train(labkit.Spec(lr=1e6, optimizer='sgd', loss='mse', steps=50, device='cpu'))\n"
    "assert run.diverged is not None"
)
EARLY = {0, -15, -2}  # struck before there was anything to say, or when all was said


def _raises(error: str) -> Fault:
    return Fault(["print('finished')", error], 1, "failed")


def _dies(how: str) -> Fault:
    return Fault(["print('finished')", f"import os\n{how}"], 138, "kernel died")


KINDS: dict[str, tuple[int, Callable[[random.Random], Fault]]] = {  # how many in the whole campaign, how to make one
    "a cell raises": (4, lambda rng: _raises(rng.choice(["1 / 0", "raise KeyError", "x ="]))),
    "sys.exit(0) in a cell": (3, lambda rng: _raises("import sys\nsys.exit(0)")),
    "out of memory": (3, lambda rng: _raises(MEMORY)),
    "an error in a thread": (3, lambda rng: Fault([THREAD], 1, "failed")),
    "an error in a widget": (3, lambda rng: Fault([WIDGET], 1, "failed")),
    "training runs to nan": (3, lambda rng: Fault([NAN], 1, "diverged", results="{'diverged': run.diverged}")),
    "no such kernel": (2, lambda rng: Fault([], 1, "failed", kernel="nonsense")),
    "os._exit(0) in a cell": (3, lambda rng: _dies("os._exit(0)")),
    "a kernel kills itself": (4, lambda rng: _dies("os.kill(os.getpid(), 9)")),
    "a kernel is killed": (6, lambda rng: Fault(SLOW, 138, "kernel died", _kill_kernel)),
    "time runs out": (4, lambda rng: Fault(SLOW, 1, "out of time", more=("--seconds", str(rng.randrange(3, 6))))),
    "Ctrl-C in a cell": (4, lambda rng: Fault(SLOW, 130, "interrupted", _in_the_cell(signal.SIGINT))),
    "SIGTERM in a cell": (4, lambda rng: Fault(SLOW, 143, "terminated", _in_the_cell(signal.SIGTERM))),
    "SIGKILL in a cell": (4, lambda rng: Fault(SLOW, -9, None, _in_the_cell(signal.SIGKILL))),
    "Ctrl-C at any time": (8, lambda rng: Fault(SHORT, {130, *EARLY}, "any", _later(signal.SIGINT))),
    "SIGTERM at any time": (8, lambda rng: Fault(SHORT, {143, *EARLY}, "any", _later(signal.SIGTERM))),
    "SIGKILL at any time": (8, lambda rng: Fault(SHORT, {0, -9}, "any", _later(signal.SIGKILL))),
    "a full disk": (6, lambda rng: Fault([BIG], 1, None, limit=_small_files(rng.randrange(1000, 200_000)))),
    "a disk full for the page alone": (
        4,
        lambda rng: Fault([WIDER], 1, None, limit=_small_files(rng.randrange(100_000, 200_000))),
    ),
    "killed while writing": (12, _killed_while_writing),
}


class Field:
    """A folder with an earlier report in it, in which faults are tried one after another.

    Attributes:
        folder: It.
        sound: Where the earlier report lies.
        seconds: How long that one took.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.sound = folder, folder / "sound"
        path = written(folder, "print('earlier')", SHORT[1])
        began = time.monotonic()
        done = subprocess.run(command(path, self.sound), capture_output=True, text=True)
        self.seconds = time.monotonic() - began
        assert done.returncode == 0, done.stderr
        (self.name,) = [each.stem for each in self.sound.glob("*.ipynb")]

    def inject(self, fault: Fault, rng: random.Random) -> None:
        """Make the fault happen, and check what it left."""
        place = Path(tempfile.mkdtemp(dir=self.folder))
        out, mark = place / "out", place / "mark"
        shutil.copytree(self.sound, out)
        path = written(place, *[cell.replace("{mark!r}", repr(str(mark))) for cell in fault.cells],
                       results=fault.results, kernel=fault.kernel)  # fmt: skip
        words = command(path, out, *fault.more)
        if fault.before:
            run = f"import sys\nfrom labkit.cli import main\nsys.exit(main({words[3:]!r}))"
            words = [sys.executable, "-c", fault.before + run]
        family = _started(words, fault.limit)
        process = family.process
        if fault.strike:
            fault.strike(process, mark, rng, self.seconds)
        said = family.ended(120)
        due = fault.code if isinstance(fault.code, set) else {fault.code}
        assert process.returncode in due, (process.returncode, said)
        assert "Traceback" not in said or process.returncode < 0, said
        self._check(out, fault.status, process.returncode)
        shutil.rmtree(place)

    def _check(self, out: Path, status: str | None, code: int) -> None:
        """What lies there can be read and is true."""
        notebook, page = out / f"{self.name}.ipynb", out / f"{self.name}.html"
        executed = nbformat.read(notebook, as_version=4)
        facts = executed.metadata.labkit
        cells = [cell for cell in executed.cells if cell.cell_type == "code" and cell.source]
        done = [cell.metadata.papermill.status == "completed" for cell in cells]
        assert all(done) or facts.code, "a cell was not run to its end, and the report is well"
        assert done == sorted(done, reverse=True) and done.count(False) >= facts.missing
        text = page.read_text(encoding="utf-8")
        assert text.startswith("<!DOCTYPE html>") and text.endswith("</html>")
        earlier = notebook.read_bytes() == (self.sound / notebook.name).read_bytes()
        assert ("⚠" in text) == (facts.code != 0) or code < 0
        if status is None:
            assert earlier and text == (self.sound / page.name).read_text(encoding="utf-8")
        elif status == "any":
            assert earlier or facts.code == max(0, code) or (code < 0 and facts.code == 0)
        else:
            assert facts.status == status and facts.code == code and facts.reason
        for part in out.glob("*.part.ipynb"):
            assert nbformat.read(part, as_version=4).cells[0].source.startswith("**Unfinished.**")
        assert status is None or status == "any" or not list(out.glob("*.part.ipynb"))


class _Family(threading.Thread):
    """A process and all that it starts, seen from its first moment on."""

    def __init__(self, process: subprocess.Popen) -> None:
        super().__init__(daemon=True)
        self.process, self.seen = process, {}
        self.start()

    def run(self) -> None:
        while self.process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                self.seen |= {child.pid: child for child in psutil.Process(self.process.pid).children(recursive=True)}
            time.sleep(0.03)

    def ended(self, seconds: float) -> str:
        """Wait for the end of the process, and of all it started; return what it said."""
        said = "".join(self.process.communicate(timeout=seconds))
        left = still_running(self.seen.values())
        assert not left, f"left behind: {left}"
        return said


def _started(words: list[str], limit: Callable | None = None) -> _Family:
    """Start a process that hears Ctrl-C, even where this one was started in the background and does not."""

    def first() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if limit:
            limit()

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return _Family(subprocess.Popen(words, preexec_fn=first, **pipes))


def two_runs(field: Field, rng: random.Random) -> None:
    """A second run on an output that is being made is told so, and changes nothing."""
    place = Path(tempfile.mkdtemp(dir=field.folder))
    mark, out = place / "mark", place / "out"
    path = written(place, MARK.replace("{mark!r}", repr(str(mark))), "import time\ntime.sleep(4)")
    one = _started(command(path, out))
    _await(mark, one.process)
    time.sleep(rng.uniform(0, 1))
    other = _started(command(path, out))
    said = other.ended(60)
    assert other.process.returncode == 3 and f"process {one.process.pid}, since" in said, said
    one.ended(60)
    facts = nbformat.read(next(out.glob("small-????????????.ipynb")), as_version=4).metadata.labkit
    assert one.process.returncode == 0 and facts.status == "done"


def _sweep(path: Path, out: Path, grid: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "labkit", "sweep", str(path), "-g", "depth", grid, "--out", str(out), *more]


def lost_worker(field: Field, rng: random.Random) -> None:
    """A Dask worker that is killed loses no run."""
    place = Path(tempfile.mkdtemp(dir=field.folder))
    mark, out = place / "mark", place / "out"
    path = written(place, MARK.replace("{mark!r}", repr(str(mark))), "import time\ntime.sleep(2)")
    words = _sweep(path, out, "1,2", "--workers", "1")
    family = _started(words)
    _await(mark, family.process)
    time.sleep(rng.uniform(0, 1))
    kernels(family.seen.values())[0].parent().kill()
    said = family.ended(180)
    assert family.process.returncode == 0 and "Sweep of 2 runs, 2 of them executed now, 0 not done" in said, said


def kernels(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those of some processes that are kernels."""
    return [each for each in processes if _runs(each) and "ipykernel" in _words(each)]


def still_running(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Wait until some processes have ended; return those that have not in time."""
    until = time.monotonic() + GRACE
    while (left := [each for each in processes if _runs(each)]) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def _runs(process: psutil.Process) -> bool:
    """Whether a process is at work: a zombie has ended, its parent has only not asked yet."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def stopped_sweep(field: Field, rng: random.Random) -> None:
    """A sweep that is stopped leaves no process, and the same command goes on with what is missing."""
    place = Path(tempfile.mkdtemp(dir=field.folder))
    path, out = written(place, "import time\ntime.sleep(1)"), place / "out"
    number = rng.choice([signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    words = _sweep(path, out, "1,2,3,4", "--workers", "2")
    family = _started(words)
    time.sleep(rng.uniform(1, 12))
    family.process.send_signal(number)
    family.ended(60)
    due = {signal.SIGINT: {130, -2}, signal.SIGTERM: {143, -15}, signal.SIGKILL: {-9}}[number] | {0}
    assert family.process.returncode in due, family.process.returncode
    done = [each for each in out.glob("small-????????????.ipynb") if each.with_suffix(".html").exists()]
    again = subprocess.run(words, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert f"Sweep of 4 runs, {4 - len(done)} of them executed now, 0 not done" in again.stdout, again.stdout


FAULTY = {  # depth → what goes wrong with it, of a sweep
    3: "raise ValueError('of no use')",
    11: "import os\nos.kill(os.getpid(), 9)",
    17: "import sys\nsys.exit(0)",
    22: "raise MemoryError('too wide')",
    30: THREAD,
    39: "import os\nos._exit(0)",
}


def faulty_sweep(folder: Path, depths: Collection[int]) -> tuple[int, int, int]:
    """Sweep over depths, some of them faulty, twice; return how many were good, explained, and run again."""
    faults = {depth: code for depth, code in FAULTY.items() if depth in depths}
    lines = [
        f"if depth == {depth}:\n" + "\n".join("    " + line for line in code.splitlines())
        for depth, code in faults.items()
    ]
    path, out = written(folder, "\n".join(lines)), folder / "out"
    words = _sweep(path, out, ",".join(map(str, depths)), "--workers", "2")
    first, second = (subprocess.run(words, capture_output=True, text=True) for _ in range(2))
    assert (first.returncode, second.returncode) == (1, 1), (first.stderr, second.stderr)
    found = re.search(r"Sweep of (\d+) runs, (\d+) of them executed now, (\d+) not done", first.stderr)
    runs, ran, bad = map(int, found.groups())
    explained = re.findall(r"^  small-\w{12}: (failed|kernel died): .+", first.stderr, re.M)
    again = int(re.search(r"runs, (\d+) of them executed now", second.stderr)[1])
    assert (runs, ran, bad) == (len(depths), len(depths), len(explained))
    return runs - bad, len(explained), again


OTHERS: dict[str, tuple[int, Callable[[Field, random.Random], None]]] = {
    "two runs on one output": (3, two_runs),
    "a Dask worker is killed": (3, lost_worker),
    "a sweep is stopped": (6, stopped_sweep),
}
