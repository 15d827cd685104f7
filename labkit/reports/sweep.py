"""Many reports of one notebook, over a grid of parameters, on Dask workers.

A worker needs the package alone: the notebook and a csv travel there as bytes, and the reports come back as bytes.
"""

import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice, product
from pathlib import Path

from labkit.core.spec import CSV
from labkit.reports import parameters
from labkit.reports.execution import FAILED, OK, terminable, undisturbed
from labkit.reports.report import Errand, Runner, fingerprint, prints_of, tables_of
from labkit.storage import atomic

SCHEDULER_TIMEOUT = 20  # seconds until a scheduler that does not answer is given up
WORKERLESS_TIMEOUT = 180  # seconds without any worker until the rest is given up
POLL_INTERVAL = 0.02  # seconds
STOPPED = "the sweep was stopped before this run was done; the same command goes on with it"
IGNORE_CTRL_C = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)"  # the sweep ends its workers
RUNS_AHEAD = 4  # handed to each worker, so that the scheduler never holds all of a long sweep


@dataclass(frozen=True)
class Row:
    """One run of a sweep.

    Attributes:
        name: What its files are called.
        values: Every parameter's value.
        status: As `labkit.reports.report.Verdict` has it, "lost" or "not run".
        reason: Why, where it is not "done".
        results: What its `results` cell says.
        seconds: How long it took.
        again: Whether it was executed by this call.
    """

    name: str
    values: dict[str, object]
    status: str = "not run"
    reason: str = ""
    results: dict[str, object] | None = None
    seconds: float = 0.0
    again: bool = False


@dataclass(frozen=True)
class Sweep:
    """A finished sweep.

    Attributes:
        rows: Its runs, in the order of the grid.
        index: The page that compares them.
        table: The same numbers as a csv.
    """

    rows: list[Row]
    index: Path
    table: Path

    @property
    def code(self) -> int:
        """The exit code: 0 where every run is done."""
        return OK if all(row.status == "done" for row in self.rows) else FAILED

    def __repr__(self) -> str:
        bad = [row for row in self.rows if row.status != "done"]
        new = sum(row.again for row in self.rows)
        said = f"Sweep of {len(self.rows)} runs, {new} of them executed now, {len(bad)} not done; {self.index}"
        return "\n".join([said, *(f"  {row.name}: {row.status}: {row.reason}" for row in bad)])


def grid_of(fixed: Mapping[str, object], grid: Mapping[str, Sequence]) -> list[dict[str, object]]:
    """Every combination of the grid's values, the last name changing fastest."""
    return [{**fixed, **dict(zip(grid, values, strict=True))} for values in product(*grid.values())]


def sweep(
    notebook: str | os.PathLike,
    grid: Mapping[str, Sequence],
    values: Mapping[str, object] | None = None,
    *,
    out: str | os.PathLike = "reports",
    workers: int | None = None,
    cluster: str | None = None,
    seconds: float | None = None,
) -> Sweep:
    """Run a notebook over a grid of parameters; what is done already is not run again.

    Args:
        notebook: The notebook's file.
        grid: For each name, the values to try: every combination is run.
        values: Parameters that are the same in all runs.
        out: The folder for the reports, an index page and a csv.
        workers: How many runs at once on this machine; by default one for each core. A GPU has one at a time.
        cluster: The address of a Dask scheduler to use instead. A run counts as one thread of a worker, so its kernel
            computes with one.
        seconds: The most that one run may take.

    Raises:
        ValueError: if a parameter is not allowed, or there is no such notebook; nothing was touched then.
        OSError: if the cluster cannot be reached.
        atomic.OutputLocked: if another sweep of this notebook holds the folder.
    """
    parameters.check_limits(seconds, workers)
    source = parameters.load(Path(notebook))
    chosen = [parameters.checked(source, one, here=cluster is None) for one in grid_of(values or {}, grid)]
    return SweepRunner(Path(notebook), source, chosen, Path(out)).run(workers, cluster, seconds)


class SweepRunner:
    """Runs one sweep.

    Args:
        notebook: The notebook's file, for its name.
        source: It, as plain JSON.
        chosen: The checked parameters of each run.
        out: The folder of the reports.
    """

    def __init__(self, notebook: Path, source: dict, chosen: list[dict[str, object]], out: Path) -> None:
        self.file, self.source, self.out = notebook, source, out
        self._print = fingerprint(source)
        runners = [Runner(notebook, source, one, out) for one in chosen]
        self._runners = {runner.name: runner for runner in runners}
        self.rows = {runner.name: Row(runner.name, runner.values) for runner in runners}

    def _found(self, name: str) -> Row:
        """The row of a run as an earlier report has it, if that came from the same notebook and the same tables."""
        row, runner = self.rows[name], self._runners[name]
        try:
            facts = json.loads(runner.notebook.read_text(encoding="utf-8"))["metadata"]["labkit"]
            same = facts["source"] == self._print and facts["tables"] == prints_of(tables_of(runner.values))
            return _filled(row, facts) if same and runner.page.exists() else row
        except (OSError, ValueError, KeyError, TypeError):  # no report, or not one of labkit's
            return row

    def run(self, workers: int | None, cluster: str | None, seconds: float | None) -> Sweep:
        """Execute what is missing or failed, and write the index, also where somebody stops it on the way.

        Raises:
            atomic.OutputLocked: if another sweep of this notebook holds the folder.
            OSError: if the cluster cannot be reached, or files cannot be written.
        """
        from labkit.reports import sweep_page

        self.out.mkdir(parents=True, exist_ok=True)
        with atomic.lock(sweep_page.page_of(self.out, self.file.stem)), terminable():
            self.rows = {name: self._found(name) for name in self.rows}
            missing = [name for name, row in self.rows.items() if row.status != "done"]
            try:
                if missing:
                    self._execute(missing, workers, cluster, seconds)
            finally:
                rows = list(self.rows.values())
                rows = [row if row.status != "not run" else replace(row, reason=STOPPED) for row in rows]
                with undisturbed():
                    page, table = sweep_page.write(self.out, self.file.stem, rows)
        return Sweep(rows, page, table)

    def _execute(self, missing: list[str], workers: int | None, cluster: str | None, seconds: float | None) -> None:
        from tqdm import tqdm

        from labkit.core.runs import bar_place
        from labkit.reports import html

        if not (self.out / html.SCRIPT).exists():
            atomic.write(self.out / html.SCRIPT, html.get_plotlyjs())
        gpus = [] if cluster or {row.values.get("device") for row in self.rows.values()} == {"cpu"} else _gpus()
        with _client(cluster, min(len(missing), _room(workers, gpus))) as (client, threads):
            jobs = {name: self._job(name, seconds, threads, gpus) for name in missing}
            lost = []
            bar = {"total": len(missing), "unit": "run", "desc": self.file.stem, "file": bar_place()}
            for name, came in tqdm(results(client, jobs), **bar):
                self._keep(name, came)
                lost += [name] if "lost" in came else []
            for name in lost:
                for _, came in results(client, {name: jobs[name]}):  # alone: another run may have killed its worker
                    self._keep(name, came)

    def _job(self, name: str, seconds: float | None, threads: int, gpus: list[str]) -> dict:
        """All that a worker needs, as plain values; a table that is the notebook's own default travels, too."""
        runner = self._runners[name]
        tables, files = {}, {}
        for key, content in tables_of(runner.values).items():
            there = f"{key}/{Path(runner.values[key].removeprefix(CSV)).name}"  # two tables may have one name
            tables[key], files[there] = CSV + there, content
        return {
            "notebook": str(self.file), "source": self.source, "chosen": runner.chosen, "tables": tables,
            "files": files, "seconds": seconds, "threads": threads, "gpus": gpus, "out": str(self.out),
        }  # fmt: skip

    def _keep(self, name: str, came: dict) -> None:
        """Write the files of a run that came back."""
        row, runner = replace(self.rows[name], again=True), self._runners[name]
        reason = came.get("lost") or came.get("missed")
        try:
            if not reason:
                with atomic.lock(runner.notebook):
                    atomic.write_together({runner.notebook: came["notebook"], runner.page: came["page"]})
        except atomic.OutputLocked as error:
            reason = str(error)
        except OSError as error:
            reason = f"{runner.notebook} was not written: {error.strerror}. Make room, and run the same command again."
        if reason:
            self.rows[name] = replace(row, status="lost", reason=reason)
        else:
            self.rows[name] = _filled(row, json.loads(came["notebook"])["metadata"]["labkit"])


def _filled(row: Row, facts: dict) -> Row:
    """A row with what its report says of itself."""
    return replace(row, **{name: facts[name] for name in ("status", "reason", "results", "seconds")})


def work(job: dict) -> dict:
    """Make one report on a worker and return its files; what the environment says is for the kernel."""
    from distributed import get_worker

    worker = get_worker()
    os.environ["OMP_NUM_THREADS"] = str(job["threads"])  # more would be more than there are cores
    if job["gpus"]:
        os.environ["CUDA_VISIBLE_DEVICES"] = job["gpus"][int(worker.name) % len(job["gpus"])]
    with tempfile.TemporaryDirectory(dir=worker.local_directory) as place:
        folder, out = Path(place, "work"), Path(place, "out")
        folder.mkdir()
        for name, content in job["files"].items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        errand = Errand(folder, given=job["tables"], home=Path(job["out"]), unwanted=_given_up(worker))
        runner = Runner(Path(job["notebook"]), job["source"], job["chosen"], out, errand=errand)
        report = runner.run(job["seconds"])
        return {"notebook": report.notebook.read_text("utf-8"), "page": report.page.read_text("utf-8")}


def _given_up(worker: object) -> Callable[[], bool]:
    """Return a function that says whether Dask has taken the worker's task back, as the sweep has ended."""
    key = worker.get_current_task()

    def asked() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled"

    return asked


@contextmanager
def _client(cluster: str | None, workers: int) -> Iterator[tuple[object, int]]:
    """A Dask client, and how many threads each kernel may have: cores are shared out among the workers here."""
    import dask
    from distributed import Client, LocalCluster

    if cluster is not None:
        try:
            client = Client(cluster, timeout=SCHEDULER_TIMEOUT)
        except (OSError, ValueError, TypeError, TimeoutError) as error:  # no such address, or no such protocol
            why = f"no Dask scheduler answers at {cluster!r}: {error}. Start one, or leave --cluster out."
            raise OSError(why) from None
        with client:
            yield client, 1
        return
    threads = max(1, (os.cpu_count() or 1) // workers)
    options = {"n_workers": workers, "threads_per_worker": 1, "preload": IGNORE_CTRL_C}
    options["dashboard_address"] = "127.0.0.1:0"  # any free port; by itself Dask takes 8787, which may be taken
    options["silence_logs"] = logging.CRITICAL  # what goes wrong stands in the rows
    patient = dask.config.set({"distributed.deploy.lost-worker-timeout": "1h"})  # 15 s are few on a busy machine
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place,
        patient,
        _unread_script(),
        LocalCluster(**options, local_directory=place) as local,
        Client(local) as client,
    ):
        yield client, threads


@contextmanager
def _unread_script() -> Iterator[None]:
    """Hide the calling script from new processes: multiprocessing would run it, to find what it defines."""
    main = sys.modules["__main__"].__dict__
    hidden = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    main.pop("__file__", None)
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(hidden)


def _gpus() -> list[str]:
    """The GPUs of this machine, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    from labkit.core.devices import available

    if "cuda" not in available():
        return []
    said = os.environ.get("CUDA_VISIBLE_DEVICES")
    return said.split(",") if said else [str(k) for k in range(torch.cuda.device_count())]


def _room(workers: int | None, gpus: list[str]) -> int:
    """How many runs this machine takes at once: as many as were asked for, but a GPU takes one."""
    return min(workers or len(gpus), len(gpus)) if gpus else workers or os.cpu_count() or 1


def _lost(error: BaseException) -> str:
    """Why a run did not come back."""
    if type(error).__name__ == "KilledWorker":
        return "KilledWorker: each worker that ran it died: killed, or out of memory"
    return " ".join(f"{type(error).__name__}: {error}".split())


def results(client: object, jobs: dict[str, dict], task: Callable = work) -> Iterator[tuple[str, dict]]:
    """Hand out jobs, a few ahead of the workers, and yield the name of each with what comes back, or why nothing does.

    Args:
        client: A Dask client.
        jobs: What to do, by name.
        task: Who does it, on a worker.
    """
    from distributed import as_completed

    waiting = iter(jobs.items())
    names: dict[str, str] = {}

    def hand_out(many: int) -> list:
        taken = list(islice(waiting, many))
        futures = [client.submit(task, job, pure=False) for _, job in taken]
        names.update({future.key: name for future, (name, _) in zip(futures, taken, strict=True)})
        return futures

    flowing = as_completed(hand_out(RUNS_AHEAD * max(1, len(client.scheduler_info()["workers"]))))
    looked = seen = time.monotonic()
    while names:
        done = flowing.next_batch(block=False)
        for future in done:
            error = future.exception()
            came = future.result() if error is None else {"lost": _lost(error)}
            for more in hand_out(1):
                flowing.add(more)
            yield names.pop(future.key), came
        time.sleep(0 if done else POLL_INTERVAL)
        if time.monotonic() - looked < 1:
            continue
        looked = time.monotonic()
        seen = looked if client.scheduler_info()["workers"] else seen
        if looked - seen > WORKERLESS_TIMEOUT:  # Dask itself would wait for ever
            break
    for name in [*names.values(), *(name for name, _ in waiting)]:
        yield name, {"missed": f"no worker was there for {WORKERLESS_TIMEOUT} s; run the same command again."}
