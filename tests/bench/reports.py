"""Measurements of reports: seconds and page size of each notebook, overhead over papermill, workers, 10,000 runs."""

import importlib.util
import json
import tempfile
import time
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path

from bench.training import Row, compare
from labkit.reports import parameters, sweep, sweep_page
from labkit.reports.report import Runner, report

PLAYGROUND = Path(__file__).parents[2] / "notebooks" / "01_playground.ipynb"
SHORT = {  # tag → cell
    "parameters": "seed: int = 0",
    "train": "import labkit\nrun = labkit.train(labkit.Spec(seed=seed, steps=2000, device='cpu'))",
    "results": "{'loss': float(run.loss[-1])}",
}
RUNS, MANY = 16, 10_000
KILOBYTE, MEBIBYTE = 1000, 2**20


def report_rows(repetitions: int) -> Iterator[Row]:
    """Measure reports and sweeps, where what they need is installed."""
    missing = [name for name in ("papermill", "distributed", "ipykernel") if importlib.util.find_spec(name) is None]
    if missing:
        yield Row(f"reports: left out, {' and '.join(missing)} is missing")
        return
    with tempfile.TemporaryDirectory() as folder:
        if PLAYGROUND.exists():
            yield from notebook_rows(sorted(PLAYGROUND.parent.glob("[0-9]*.ipynb")), Path(folder))
            yield overhead_row(Path(folder), min(3, repetitions))
        yield workers_row(Path(folder))
        yield from scale_rows(Path(folder))


def notebook_rows(notebooks: Iterable[Path], folder: Path) -> Iterator[Row]:
    """Measure the report of each notebook with its defaults, one at a time: seconds and the size of its page."""
    for notebook in notebooks:
        own = "out" in parameters.declared(parameters.load(notebook))
        done = report(notebook, {"out": str(folder / "written")} if own else {}, out=folder)
        if done.verdict.code:
            yield Row(f"report of {notebook.stem}: left out, {done.verdict.reason}")
            continue
        yield Row(f"report of {notebook.stem}, s", done.seconds, target=60, at_most=True)
        yield Row("its page, kB", done.page.stat().st_size / KILOBYTE, target=300, at_most=True)


def overhead_row(folder: Path, repetitions: int) -> Row:
    """Measure the run of a report, its page aside, against papermill alone on the same notebook."""
    import papermill

    source = parameters.load(PLAYGROUND)

    def ours() -> float:
        return Runner(PLAYGROUND, source, {}, folder / "ours").run().seconds

    def plain() -> float:
        began = time.perf_counter()
        papermill.execute_notebook(PLAYGROUND, folder / "plain.ipynb", progress_bar=False)
        return time.perf_counter() - began

    row = compare("report of 01_playground, page aside, s", ours, plain, 1.1, repetitions)
    return row._replace(at_most=True)


def workers_row(folder: Path) -> Row:
    """Measure short reports on two workers against one; networks so small train on one thread."""
    notebook = folder / "short.ipynb"
    empty = {"cell_type": "code", "outputs": [], "execution_count": None}
    cells = [empty | {"source": source, "metadata": {"tags": [tag]}} for tag, source in SHORT.items()]
    notebook.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
    seconds = {}
    for workers in (1, 2):
        began = time.perf_counter()
        done = sweep.sweep(notebook, {"seed": range(RUNS)}, out=folder / f"{workers} workers", workers=workers)
        seconds[workers] = time.perf_counter() - began
        if done.code:
            return Row(f"{RUNS} short reports: left out, {done!r}")
    return Row(
        f"{RUNS} short reports, 2 workers / 1, 1/s", 1 / seconds[2], 1 / seconds[1], seconds[1] / seconds[2], 1.6
    )


def scale_rows(folder: Path) -> Iterator[Row]:
    """Measure ten thousand runs that do nothing: sent to workers, collected, and compared on one page."""
    from distributed import Client, LocalCluster

    jobs = {f"run-{k}": {"number": k} for k in range(MANY)}
    quiet = {"silence_logs": 50, "dashboard_address": "127.0.0.1:0"}
    tracemalloc.start()
    with LocalCluster(n_workers=2, threads_per_worker=1, **quiet) as local, Client(local) as client:
        began = time.perf_counter()
        came = sum(1 for _ in sweep.results(client, jobs, stub))
        seconds = time.perf_counter() - began
    memory = tracemalloc.get_traced_memory()[1] / MEBIBYTE
    tracemalloc.stop()
    yield Row(f"{came:,} stub runs through Dask, s", seconds)
    yield Row("memory of scheduler and client, MB", memory)
    values, found = (
        [{"depth": k % 7, "lr": k / MANY} for k in range(MANY)],
        [{"loss": 1 / (k + 1)} for k in range(MANY)],
    )
    rows = [sweep.Row(f"run-{k}", values[k], "done", "", found[k]) for k in range(MANY)]
    began = time.perf_counter()
    page, _ = sweep_page.write(folder, "many", rows)
    yield Row(f"index of {MANY:,} runs, s", time.perf_counter() - began, target=10, at_most=True)
    yield Row("its page, MB", page.stat().st_size / MEBIBYTE)


def stub(job: dict) -> dict:
    """Do nothing, as a worker."""
    return job
