"""Sweeps: every combination once, what failed explained, what is done not run again, lost workers, the index."""

import csv
import html
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from faults import kernels, still_running, written

import labkit
from labkit.cli import main
from labkit.reports import sweep, sweep_page
from labkit.reports.report import name_of
from labkit.reports.sweep import Row, grid_of
from labkit.storage import atomic

RESULTS = '{"depth": depth, "double": 2 * depth, "by": {"a": 1.5, 3: [1, 2]}, "word": "w", "diverged": None}'


def test_a_grid_is_every_combination_with_the_last_name_fastest():
    assert grid_of({"a": 1}, {"b": [1, 2], "c": [3, 4]}) == [
        {"a": 1, "b": 1, "c": 3}, {"a": 1, "b": 1, "c": 4}, {"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2, "c": 4},
    ]  # fmt: skip


def test_one_bad_combination_refuses_all_and_touches_nothing(tmp_path, capsys):
    path = written(tmp_path)
    with pytest.raises(ValueError, match="depth=-1"):
        labkit.sweep(path, {"depth": [1, -1]}, out=tmp_path / "out")
    assert main(["sweep", str(path), "-g", "depth", "1,many", "--out", str(tmp_path / "out")]) == 2
    assert "depth='many' is not allowed" in capsys.readouterr().err
    assert main(["sweep", str(path), "-g", "depth", "1,,2"]) == 2 and not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of 4 with one that fails, run twice; the second time the fault is gone."""
    folder = tmp_path_factory.mktemp("sweep")
    flag = folder / "mended"
    path = written(folder, f"import os\nassert depth != 2 or seed or os.path.exists({str(flag)!r})", results=RESULTS)
    first = labkit.sweep(path, {"depth": [1, 2], "seed": [0, 1]}, {"name": "=x"}, out=folder / "out", workers=2)
    flag.write_text("")
    second = labkit.sweep(path, {"depth": [1, 2], "seed": [0, 1]}, {"name": "=x"}, out=folder / "out", workers=1)
    return first, second


def test_what_failed_is_explained_and_the_others_are_done(swept):
    first, _ = swept
    assert [row.status for row in first.rows] == ["done", "done", "failed", "done"]
    assert first.rows[0].reason == ""
    assert "cell 3 raised AssertionError" in first.rows[2].reason and first.code == 1
    assert "4 runs, 4 of them executed now, 1 not done" in repr(first)


def test_the_second_call_runs_what_failed_and_nothing_else(swept):
    _, second = swept
    assert [row.again for row in second.rows] == [False, False, True, False] and second.code == 0
    assert [row.results["double"] for row in second.rows] == [2, 2, 4, 4]


def test_reports_of_a_sweep_are_reports(swept):
    _, second = swept
    out = second.index.parent
    for row in second.rows:
        facts = nbformat.read(out / f"{row.name}.ipynb", as_version=4).metadata.labkit
        assert facts["values"] == row.values and (out / f"{row.name}.html").exists()
    assert not list(out.glob("*.part.ipynb"))


def test_the_table_has_every_run_and_no_formulas(swept):
    _, second = swept
    lines = list(csv.DictReader(io.StringIO(second.table.read_text())))
    assert [(line["depth"], line["seed"], line["double"]) for line in lines] == [
        ("1", "0", "2"), ("1", "1", "2"), ("2", "0", "4"), ("2", "1", "4"),
    ]  # fmt: skip
    assert lines[0]["name"] == "'=x" and lines[0]["by.3.1"] == "2" and lines[0]["result depth"] == "1"


def test_a_changed_notebook_is_run_anew(swept):
    _, second = swept
    path = Path(second.index.parent.parent, "small.ipynb")
    again = labkit.sweep(path, {"depth": [1]}, {"name": "=x", "seed": 0}, out=second.index.parent, workers=1)
    assert [row.again for row in again.rows] == [False]
    nbformat.write(nbformat.read(written(path.parent, "2 + 2", results=RESULTS), as_version=4), path)
    again = labkit.sweep(path, {"depth": [1]}, {"name": "=x", "seed": 0}, out=second.index.parent, workers=1)
    assert [row.again for row in again.rows] == [True]


def test_a_csv_travels_to_the_worker(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("table.csv").write_text("a,b\n1,2\n")
    path = written(tmp_path, "text = open(dataset.removeprefix('csv:')).read()", results='{"rows": len(text.split())}')
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source += '\ndataset: str = "spiral"  # what to learn from'
    nbformat.write(notebook, path)
    done = labkit.sweep(path, {"dataset": ["csv:table.csv"]}, out=tmp_path / "out", workers=1)
    assert done.rows[0].results == {"rows": 2} and done.rows[0].values["dataset"] == "csv:table.csv"


def test_tables_that_are_defaults_travel_too_and_may_share_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place, text in {"here": "a,b\n1,2\n", "there": "a,b\n1,2\n3,4\n"}.items():
        Path(place).mkdir()
        Path(place, "table.csv").write_text(text)
    count = "[len(open(each.removeprefix('csv:')).read().split()) for each in (one, other)]"
    path = written(tmp_path, results=f"{{'rows': {count}}}")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source += "\none = 'csv:here/table.csv'\nother = 'csv:here/table.csv'"
    nbformat.write(notebook, path)
    done = labkit.sweep(path, {"other": ["csv:there/table.csv"]}, out=tmp_path / "out", workers=1)
    assert done.rows[0].results == {"rows": [2, 3]}
    top = nbformat.read(tmp_path / "out" / f"{done.rows[0].name}.ipynb", as_version=4).cells[0].source
    again = html.unescape(top)  # where the report will lie, not where a worker made it
    assert "-p other csv:there/table.csv" in again and f"--out {tmp_path / 'out'}" in again


def test_a_second_sweep_is_told_who_holds_the_folder_and_a_held_report_is_not_written_over(tmp_path, capsys):
    path, out = written(tmp_path), tmp_path / "out"
    out.mkdir()
    words = ["sweep", str(path), "-g", "depth", "1,2", "--out", str(out)]
    with atomic.lock(sweep_page.page_of(out, "small")):
        assert main(words) == 3
    assert f"small.index.html is being written by process {os.getpid()}" in capsys.readouterr().err
    assert not list(out.glob("*.ipynb"))
    name = name_of(path, {"depth": 1, "name": "a", "seed": 0})
    with atomic.lock(out / f"{name}.ipynb"):
        assert main(words) == 1
    said = capsys.readouterr().err
    assert f"{name}: lost: " in said and "is being written by process" in said and "1 not done" in said
    assert main(words) == 0 and "1 of them executed now, 0 not done" in capsys.readouterr().out


def test_a_sweep_that_is_told_to_end_writes_its_index(tmp_path):
    path, out = written(tmp_path, "import time\ntime.sleep(3 * (depth - 1))"), tmp_path / "out"
    words = [sys.executable, "-m", "labkit", "sweep", str(path), "-g", "depth", "1,9", "--out", str(out)]
    process = subprocess.Popen([*words, "--workers", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until = time.monotonic() + 100
    while not list(out.glob("small-*.html")):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.1)
    process.terminate()
    assert process.wait(60) == 143
    process.communicate()
    lines = list(csv.DictReader(io.StringIO((out / "small.csv").read_text())))
    assert [line["status"] for line in lines] == ["done", "not run"]


def test_a_script_that_is_told_to_end_in_a_sweep_says_so_in_its_exit_code(tmp_path):
    path = written(tmp_path, "open('begun', 'w').close()\nimport time\ntime.sleep(600)")
    code = f"import labkit\nlabkit.sweep({str(path)!r}, {{'depth': [1]}}, out='out', workers=1)"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    family = with_a_kernel(process, process.pid)
    process.terminate()
    assert process.wait(300) == 143
    process.communicate()
    assert still_running(family) == []


def test_a_changed_table_is_run_anew(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("table.csv").write_text("1,2\n")
    path = written(tmp_path, results="{'rows': open(table.removeprefix('csv:')).read().count(',')}")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source += "\ntable = 'csv:table.csv'"
    nbformat.write(notebook, path)
    first, again = (labkit.sweep(path, {"depth": [1]}, out="out", workers=1) for _ in range(2))
    Path("table.csv").write_text("1,2\n3,4\n")
    third = labkit.sweep(path, {"depth": [1]}, out="out", workers=1)
    assert [each.rows[0].again for each in (first, again, third)] == [True, False, True]
    assert third.rows[0].results == {"rows": 2}


def test_where_the_disk_is_full_a_run_says_so_and_the_others_are_kept(tmp_path, monkeypatch):
    real = sweep.atomic.write_together

    def full(texts):
        reports = [path for path in texts if path.suffix == ".ipynb"]
        if reports and len(list((tmp_path / "out").glob("*.ipynb"))) == 1:
            raise OSError(28, "No space left on device")
        real(texts)

    monkeypatch.setattr(sweep.atomic, "write_together", full)
    done = labkit.sweep(written(tmp_path), {"depth": [1, 2]}, out=tmp_path / "out", workers=1)
    assert sorted(row.status for row in done.rows) == ["done", "lost"] and done.code == 1
    assert "was not written: No space left on device" in repr(done)


@pytest.fixture(scope="module")
def cluster():
    """A cluster with one worker of two threads."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0", silence_logs=40) as cluster:
        yield cluster


def with_a_kernel(process, root):
    """While one process runs, wait for a kernel among all that another, its root, has started; return all of that."""
    until = time.monotonic() + 300
    while not kernels(family := psutil.Process(root).children(recursive=True)):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.2)
    return family


def test_a_kernel_ends_with_the_sweep_that_asked_for_it_on_a_cluster_too(cluster, tmp_path):
    path = written(tmp_path, "import time\ntime.sleep(600)")
    words = [sys.executable, "-m", "labkit", "sweep", str(path), "-g", "depth", "1", "--out", str(tmp_path / "out")]
    words += ["--cluster", cluster.scheduler_address]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    begun = kernels(with_a_kernel(process, cluster.workers[0].pid))
    process.kill()  # it can tell nobody
    process.communicate()
    assert still_running(begun) == []


def test_a_worker_of_several_threads_runs_several_reports_at_once(cluster, tmp_path):
    said = "{'here': __import__('os').getcwd(), 'threads': __import__('os').environ['OMP_NUM_THREADS']}"
    path = written(tmp_path, "import time\ntime.sleep(2)", results=said)
    done = labkit.sweep(path, {"depth": [1, 2, 3, 4]}, out=tmp_path / "out", cluster=cluster.scheduler_address)
    assert [row.status for row in done.rows] == ["done"] * 4, done
    assert len({row.results["here"] for row in done.rows}) == 4
    assert {row.results["threads"] for row in done.rows} == {"1"}


def test_gpus_are_shared_out_one_to_a_worker(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "_gpus", lambda: ["3", "5"])
    path = written(tmp_path, results="{'gpu': __import__('os').environ['CUDA_VISIBLE_DEVICES']}")
    done = labkit.sweep(path, {"depth": [1, 2, 3, 4]}, out=tmp_path / "out", workers=2)
    assert {row.results["gpu"] for row in done.rows} == {"3", "5"}
    assert sweep._room(8, ["3", "5"]) == 2 and sweep._room(None, ["3"]) == 1 and sweep._room(8, []) == 8


def test_a_lost_worker_loses_no_run_and_a_run_that_kills_workers_is_named(tmp_path):
    parent = "import os, psutil\nworker = psutil.Process().parent()"
    once = f"{parent}\nflag = {str(tmp_path / 'flag')!r}\nif depth == 1 and not os.path.exists(flag):\n"
    path = written(tmp_path, f"{once}    open(flag, 'w').close()\n    worker.kill()", results='{"depth": depth}')
    done = labkit.sweep(path, {"depth": [1, 2]}, out=tmp_path / "out", workers=1)
    assert [row.status for row in done.rows] == ["done", "done"]
    path = written(tmp_path, f"{parent}\nif depth == 1:\n    worker.kill()", results='{"depth": depth}')
    done = labkit.sweep(path, {"depth": [1, 2]}, out=tmp_path / "out", workers=1)
    assert [row.status for row in done.rows] == ["lost", "done"] and "KilledWorker" in done.rows[0].reason


def test_a_script_needs_no_guard(tmp_path):
    path = written(tmp_path)
    sweep = f"print(labkit.sweep({str(path)!r}, {{'depth': [1, 2]}}, out='out'))"
    script = f"import labkit\nprint('once')\n{sweep}\nprint(__file__)"
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert done.stdout.count("once") == 1 and "2 of them executed now, 0 not done" in done.stdout
    assert done.stdout.endswith("script.py\n")


def test_a_cluster_without_workers_is_given_up_and_says_so(tmp_path, monkeypatch):
    from distributed import LocalCluster

    monkeypatch.setattr(sweep, "WORKERLESS_TIMEOUT", 1)
    with LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0", silence_logs=40) as cluster:
        address = cluster.scheduler_address
        done = labkit.sweep(written(tmp_path), {"depth": range(1, 7)}, out=tmp_path / "out", cluster=address)
    assert [row.status for row in done.rows] == ["lost"] * 6 and "no worker was there for 1 s" in done.rows[5].reason
    assert done.code == 1 and done.index.exists()


def test_a_cluster_that_is_not_there_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sweep, "SCHEDULER_TIMEOUT", 1)
    code = main(["sweep", str(written(tmp_path)), "-g", "depth", "1", "--cluster", "tcp://127.0.0.1:9"])
    assert code == 1 and "no Dask scheduler answers at 'tcp://127.0.0.1:9'" in capsys.readouterr().err


# The index


def rows(many):
    chosen = [{"depth": k % 7, "lr": 0.1, "name": "</script>"} for k in range(many)]
    return [
        Row(f"run-{k}", values, "done" if k else "failed", "<b>", {"loss": k / 3}, 1.5)
        for k, values in enumerate(chosen)
    ]


def test_numbers_are_found_wherever_they_are():
    found = sweep_page.numbers(
        {"a": 1, "b": {"c": 2.5, 3: True}, "d": [4, 5], "e": "no", "f": None, "g": list(range(99))}
    )
    assert found == {"a": 1, "b.c": 2.5, "b.3": True, "d.0": 4, "d.1": 5}


def test_a_page_holds_the_numbers_once_and_no_markup_of_theirs():
    page = sweep_page.as_page("some", sweep_page.columns(rows(3)))
    assert "3 runs: 2 done, <b>1 not</b>" in page and page.count("</script>") == 2
    data = page[page.index("const SWEEP = ") + 14 :].split(";\n", 1)[0]
    facts = json.loads(data)
    assert [head["label"] for head in facts["columns"]] == ["run", "status", "depth", "loss", "seconds", "reason"]
    assert facts["records"][2] == ["run-2", "done", 2, 2 / 3, 1.5, "<b>"]


def test_ten_thousand_runs_make_an_index_in_seconds(tmp_path):
    many = rows(10_000)
    began = time.perf_counter()
    page, table = sweep_page.write(tmp_path, "many", many)
    assert time.perf_counter() - began < 100  # ten times the target
    assert page.stat().st_size < 5_000_000 and table.read_text().count("\n") == 10_001


def test_heads_of_the_table_differ_and_are_no_formulas(tmp_path):
    row = Row("run-1", {"seconds": 3, "=a": 1}, "done", "", {"seconds": 4, "status": 5, "=b": 6}, 1.5)
    _, table = sweep_page.write(tmp_path, "some", [row])
    heads = table.read_text().splitlines()[0].split(",")
    assert len(set(heads)) == len(heads) and not any(head.startswith("=") for head in heads)
    assert {"seconds", "parameter seconds", "result seconds", "result status", "'=a", "'=b"} <= set(heads)


@pytest.mark.browser
def test_an_index_shows_whatever_a_value_says(tmp_path, page):
    texts = ["<!--<script>", "</script>", "a"]
    made = [Row(f"run#{k}?", {"x": text}, "done", text, {text: k}, 1.0) for k, text in enumerate(texts)]
    path, _ = sweep_page.write(tmp_path, "some", made)
    page.goto(path.as_uri())
    assert page.locator("tbody tr").count() == 3 and "<!--<script>" in page.locator("tbody").inner_text()
    assert page.locator("tbody a").first.get_attribute("href") == "run%230%3F.html"


@pytest.mark.browser
def test_an_index_sorts_searches_and_draws_what_is_chosen(tmp_path, page):
    from labkit.reports import html

    (tmp_path / html.SCRIPT).write_text(html.get_plotlyjs())
    path, _ = sweep_page.write(tmp_path, "many", rows(1000))
    page.goto(path.as_uri())
    page.wait_for_selector("#chart .scatterlayer .trace")
    body = page.locator("tbody tr")
    assert body.count() == 100 and "100 of 1000" in page.locator("#shown").inner_text()
    head = page.locator("th", has_text="loss")
    head.click()
    head.click()
    assert body.first.inner_text().startswith("run-999") and head.get_attribute("aria-sort") == "descending"
    page.locator("th", has_text="status").press("Enter")
    page.locator("th", has_text="status").press("Enter")
    assert body.first.get_attribute("class") == "bad"
    page.locator("#find").fill("run-99")
    assert body.count() == 11
    page.locator("#y").select_option(label="seconds")
    page.wait_for_function("document.querySelector('#chart .ytitle').textContent === 'seconds'")
    assert page.errors == []
