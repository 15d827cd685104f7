"""Reports: truthful about what was run, whole on the disk whatever happens, and light; real kernels, real faults."""

import json
import os
import re
import resource
import signal
import subprocess
import tempfile
import time
from html import unescape
from pathlib import Path

import nbformat
import psutil
import pytest
from faults import RESULTS, command, still_running, written

import labkit
from labkit.cli import main
from labkit.reports import execution, html, parameters
from labkit.reports import report as report_module
from labkit.reports.report import Runner, name_of, report
from labkit.storage import atomic


def made(folder, *cells, values=None, results=RESULTS, **more):
    return report(written(folder, *cells, results=results), values, out=folder / "out", **more)


def top(result):
    return nbformat.read(result.notebook, as_version=4).cells[0].source


def files(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


# What a good one is


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good report")
    cells = [
        "import plotly.graph_objects as go\ngo.Figure().add_scatter(y=[1, 2, 3], name='</script>')",
        "import ipywidgets\nipywidgets.IntSlider(3, description='dead')",
        "import time\ntime.sleep(0.5)",
    ]
    return made(folder, *cells, values={"depth": 4, "name": "<b>`x`|"})


def test_a_good_report_says_what_was_run_and_what_came_out(good):
    assert good.verdict == report_module.Verdict() and good.results == {"depth": 4, "twice": 8, "diverged": None}
    assert good.values == {"depth": 4, "name": "<b>`x`|", "seed": 0}
    assert "done after" in repr(good) and good.seconds > 0.5
    facts = nbformat.read(good.notebook, as_version=4).metadata.labkit
    assert (facts.status, facts.results, facts["values"]) == ("done", good.results, good.values)


def test_the_top_names_parameters_versions_seed_and_the_command_and_takes_nothing_for_markup(good):
    said = top(good)
    for words in ("small.ipynb", "depth 4", "python", "labkit report", "--out", "name <b>`x`|"):
        assert words in unescape(said)
    markup = re.sub(r"</?(details|summary|table|tr|th|td)>", "", said)
    assert not set("<>`|") & set(markup) and "labkit-banner" not in said and "⚠" not in good.page.read_text()


def test_files_are_named_by_the_notebook_and_its_parameters(good, tmp_path):
    assert re.fullmatch(r"small-[0-9a-f]{12}\.ipynb", good.notebook.name) and good.page.stem == good.notebook.stem
    assert files(good.notebook.parent) == sorted([good.notebook.name, good.page.name, html.SCRIPT])
    source = parameters.load(written(tmp_path))
    same = [Runner(Path("small.ipynb"), source, chosen, tmp_path).name for chosen in ({}, {"depth": 3}, {"depth": 4})]
    assert same[0] == same[1] != same[2]
    assert name_of(Path("a.ipynb"), {"x": 1, "y": 2}) == name_of(Path("a.ipynb"), {"y": 2, "x": 1})


def test_widgets_are_gone_and_charts_are_there(good):
    text, page = good.notebook.read_text(), good.page.read_text()
    assert html.VIEW not in text and html.PLOTLY in text and "<script>draw('chart-1', " in page
    assert page.count("\\u003c/script>") == 1 and page.count("</script>") == page.count("<script")
    assert page.count("IntSlider") == 1 and html.WIDGET in page  # in the cell's code alone
    assert '<span class="kn">' in page and '<span class="n">' not in page  # coloured, and nothing without a colour
    assert len(page) < 80_000 and f"src='{html.SCRIPT}'" in page and "<noscript>" in page
    assert not re.search(r"(src|href)=['\"]?https?:", page)


def test_a_progress_bar_leaves_nothing(tmp_path):
    bar = (
        "import time\nfrom tqdm import tqdm\nfor k in tqdm(range(5), leave=False, mininterval=0):\n    time.sleep(0.2)"
    )
    to_stdout = bar.replace("leave", "file=__import__('sys').stdout, leave")
    result = made(tmp_path, bar, to_stdout, to_stdout + "\nprint('after it')")
    cells = nbformat.read(result.notebook, as_version=4).cells[2:-1]
    assert [[output.text for output in cell.outputs] for cell in cells] == [[], [], ["after it\n"]]


def test_a_notebook_that_names_no_kernel_is_run_by_python(tmp_path):
    path = written(tmp_path)
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = {}
    nbformat.write(notebook, path)
    assert report(path, {"depth": 5}, out=tmp_path / "out").results["twice"] == 10


def test_a_page_that_travels_alone_holds_plotly(tmp_path):
    result = made(tmp_path, "import plotly.graph_objects as go\ngo.Figure().add_scatter(y=[1])", single_file=True)
    assert len(result.page.read_text()) > 1e6 and files(tmp_path / "out") == [result.page.name, result.notebook.name]


def test_a_still_stands_in_where_there_is_no_javascript(good):
    page = good.page.read_text()
    assert len(re.findall("<noscript><img alt=.[^>]* src=.data:image/webp;base64,UklGR", page)) == 1
    assert html.NO_SCRIPT not in page


def test_without_a_chrome_a_plain_word_stands_in(tmp_path, monkeypatch):
    def missing(**options):
        raise RuntimeError("Kaleido requires <Chrome>\nand more")

    monkeypatch.setattr("kaleido.Kaleido", missing)
    page = made(tmp_path, "import plotly.graph_objects as go\ngo.Figure().add_scatter(y=[1])").page.read_text()
    assert f"<p>{html.NO_SCRIPT} (RuntimeError: Kaleido requires &lt;Chrome&gt;).</p>" in page and "<img" not in page


def statuses(result):
    """What the notebook's file says of its code cells."""
    cells = nbformat.read(result.notebook, as_version=4).cells
    return [cell.metadata.papermill.status for cell in cells if cell.cell_type == "code"]


def test_what_a_run_says_is_text_on_its_page(tmp_path):
    hostile = "$\\text{<svg/onload=alert(1)>}$"
    link = "\n\n[a link](javascript:alert(1)) ![a picture](https://example.org/x.png)"
    widget = f"import ipywidgets\nout = ipywidgets.Output()\nwith out:\n    raise KeyError({hostile + link!r})\nout"
    for cell in (widget, f"raise KeyError({hostile + link!r})"):
        result = made(tmp_path, cell, values={"name": hostile + link})
        page = result.page.read_text()
        assert result.verdict.status == "failed" and "text{<svg/onload" in unescape(top(result))
        assert "\n" not in result.verdict.reason and unescape(page).count("text{<svg/onload=alert(1)>}") > 3
        assert not re.search("<svg|<math|<img|<a href=.javascript", page)


# A report of a report


def test_an_earlier_report_runs_again_with_its_own_parameters_and_says_so(tmp_path):
    first = made(tmp_path, values={"depth": 4, "name": "x"})
    again = report(first.notebook, out=tmp_path / "again")
    changed = report(again.notebook, {"seed": 1}, out=tmp_path / "changed")
    last = report(changed.notebook, {"depth": 5}, out=tmp_path / "last")
    for result, depth, seed in ((first, 4, 0), (again, 4, 0), (changed, 4, 1), (last, 5, 1)):
        assert result.results["depth"] == result.values["depth"] == depth
        assert result.values == {"depth": depth, "name": "x", "seed": seed}
        words = unescape(top(result))
        assert f"depth {depth}" in words and "name x" in words and f"<th>seed</th><td>{seed}</td>" in words
        notebook = nbformat.read(result.notebook, as_version=4)
        assert [cell.metadata.tags for cell in notebook.cells].count(["labkit-report"]) == 1
    facts = nbformat.read(again.notebook, as_version=4).metadata.papermill
    assert facts.parameters == {} and facts.input_path == str(first.notebook)
    assert facts.output_path == str(again.notebook)


def test_what_an_earlier_run_left_in_a_notebook_is_not_taken_for_this_runs(tmp_path):
    path = made(tmp_path, "1", "2").notebook
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].source = "import os\nos._exit(0)"
    nbformat.write(notebook, path)
    result = report(path, out=tmp_path / "out")
    assert (result.verdict.status, result.verdict.cell, result.verdict.missing) == ("kernel died", 2, 3)
    assert statuses(result) == ["completed", "interrupted", "pending", "pending"] and result.results == {}


# What went wrong is said, and what was finished is kept


BAD = {
    "a cell raises": (["1 / 0", "2"], 1, "failed", "cell 2 raised ZeroDivisionError: division by zero", 2, 2),
    "the kernel is killed": (["import os\nos.kill(os.getpid(), 9)", "2"], 138, "kernel died", "died in cell 2", 2, 3),
    "sys.exit(0)": (["import sys\nsys.exit(0)", "2"], 1, "failed", "cell 2 raised SystemExit: 0", 2, 2),
    "a thread fails": (
        ["import threading\nt = threading.Thread(target=lambda: 1 / 0)\nt.start()\nt.join()"],
        1, "failed", "a thread of cell 2 ended with ZeroDivisionError: division by zero", 2, 0,
    ),
    "a widget fails": (
        ["import ipywidgets\nout = ipywidgets.Output()\nwith out:\n    raise KeyError('in a widget')\nout"],
        1, "failed", "a widget's output holds KeyError: 'in a widget'", 0, 0,
    ),
    "out of memory": (["raise MemoryError('too wide')"], 1, "failed", "MemoryError: too wide", 2, 1),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_what_went_wrong_is_said(fault, tmp_path):
    cells, code, status, words, cell, missing = BAD[fault]
    result = made(tmp_path, *cells)
    verdict = result.verdict
    assert (verdict.code, verdict.status, verdict.cell, verdict.missing) == (code, status, cell, missing)
    assert words in verdict.reason
    assert "labkit-banner" in top(result) and "⚠" in result.page.read_text()
    assert (f"{missing} of its code cells did not run" in top(result)) == (missing > 0)
    metadata = nbformat.read(result.notebook, as_version=4).metadata
    assert metadata.labkit.status == status
    ended = {"the kernel is killed": "interrupted", "a thread fails": "completed", "a widget fails": "completed"}
    ended = ended.get(fault, "failed")
    assert statuses(result) == ["completed", ended, *["pending" if missing else "completed"] * len(cells)]
    assert (metadata.papermill.status, metadata.papermill.exception) == (ended, True if missing else None)
    assert files(tmp_path / "out") == sorted([result.page.name, result.notebook.name, html.SCRIPT])


def test_time_that_ran_out_is_said_and_the_finished_cells_are_kept(tmp_path):
    result = made(tmp_path, "print('finished')", "import time\ntime.sleep(60)", seconds=3)
    assert (result.verdict.code, result.verdict.status, result.verdict.cell) == (1, "out of time", 3)
    assert "3 s ran out in cell 3" in result.verdict.reason and "finished" in result.page.read_text()
    assert statuses(result) == ["completed", "completed", "interrupted", "pending"]


def test_results_that_report_a_divergence_make_the_report_fail(tmp_path):
    result = made(tmp_path, results='{"diverged": 12, "loss": float("nan"), "other": float("inf")}')
    assert (result.verdict.code, result.verdict.status) == (1, "diverged") and "step 12" in result.verdict.reason
    facts = json.loads(result.notebook.read_text(), parse_constant=pytest.fail)["metadata"]["labkit"]
    assert facts["results"] == {"diverged": 12, "loss": None, "other": None}


def test_numbers_of_numpy_are_read_as_numbers_and_texts_are_left_as_they_are(tmp_path):
    results = (
        '{"diverged": np.int64(12), "loss": np.float32(0.5), "nan": np.float64("nan"), "low": -np.inf, "ok": np.True_,'
        ' "many": [np.float64(1.0), -2], "word": "inf or nan"}'
    )
    result = made(tmp_path, "import numpy as np", results=results)
    assert result.verdict.status == "diverged" and "step 12" in result.verdict.reason
    assert nbformat.read(result.notebook, as_version=4).metadata.labkit.results == {
        "diverged": 12, "loss": 0.5, "nan": None, "low": None, "ok": True, "many": [1.0, -2], "word": "inf or nan",
    }  # fmt: skip


def test_keys_and_values_that_json_lacks_become_text_and_the_report_is_whole(tmp_path):
    result = made(tmp_path, results="{(1, 2): 3, 4: {5, 6}, 'diverged': False, 'z': 1j}")
    assert result.verdict.status == "done" and result.results[1, 2] == 3
    facts = nbformat.read(result.notebook, as_version=4).metadata.labkit
    assert facts.results == {"(1, 2)": 3, "4": [5, 6], "diverged": False, "z": "1j"}


@pytest.mark.parametrize(
    ("cells", "verdict"),
    [
        ([("code", '{"diverged": True}')], "diverged: the results say that the training diverged."),
        ([("code", '{"a": 1}'), ("code", '{"diverged": 5}')], "failed: several cells are tagged 'results'"),
        (
            [("markdown", "words"), ("code", '{"diverged": 5}')],
            "diverged: the results say that the training diverged at",
        ),
        ([("code", '{"a": list(range(1500))}')], "failed: the cell tagged 'results' shows more than a thousand values"),
        (
            [("code", "{k: k for k in range(1500)}")],
            "failed: the cell tagged 'results' shows more than a thousand values",
        ),
        ([("code", '{"a": "..."}')], "done: "),
    ],
)
def test_a_cell_of_results_is_code_is_one_and_is_whole(cells, verdict, tmp_path):
    path = written(tmp_path)
    notebook = nbformat.read(path, as_version=4)
    news = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
    more = [news[kind](text, metadata={"tags": ["results"]}) for kind, text in cells]
    notebook.cells[-1:] = more
    nbformat.write(notebook, path)
    done = report(path, out=tmp_path / "out").verdict
    assert f"{done.status}: {done.reason}".startswith(verdict)


@pytest.mark.parametrize("results", ["results = {}", "[1, 2]", "{'x': object()}", "{'x': np.zeros(3)}"])
def test_results_that_cannot_be_read_make_the_report_fail(results, tmp_path):
    result = made(tmp_path, "import numpy as np", results=results)
    assert (result.verdict.code, result.verdict.status, result.verdict.cell) == (1, "failed", 3)
    assert "shows no dictionary of plain values" in result.verdict.reason and result.results == {}


# Nothing is lost


def ended(process, number, marker):
    """Wait until the notebook is in its long cell, send a signal, and return the exit code; no kernel is left."""
    until = time.monotonic() + 60
    while not marker.exists():
        assert process.poll() is None and time.monotonic() < until, process.communicate()
        time.sleep(0.05)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    code = process.wait(300)
    assert family and still_running(family) == []
    return code


@pytest.mark.parametrize(
    ("number", "code", "status"),
    [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted"), (signal.SIGKILL, -9, None)],
)
def test_a_signal_leaves_what_was_finished_no_kernel_and_the_earlier_report(number, code, status, tmp_path):
    earlier = made(tmp_path, "print('earlier')")
    marker = tmp_path / "marker"
    path = written(tmp_path, "print('finished')", f"open({str(marker)!r}, 'w').close()\nimport time\ntime.sleep(100)")
    process = subprocess.Popen(command(path, tmp_path / "out"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert ended(process, number, marker) == code
    process.communicate()
    report = nbformat.read(earlier.notebook, as_version=4)
    if status is None:  # nobody was left to write it: the earlier one stands, and beside it what there was
        assert report.metadata.labkit.status == "done" and "earlier" in earlier.page.read_text()
        part = nbformat.read(next((tmp_path / "out").glob("*.part.ipynb")), as_version=4)
        assert "print('finished')" in json.dumps(part) and part.metadata.labkit.status == "running"
        assert part.cells[0].source.startswith("**Unfinished.**") and part.cells[2].outputs[0].text == "finished\n"
        assert [cell.metadata.papermill.status for cell in part.cells[2:]] == ["completed", "running", "pending"]
    else:
        assert report.metadata.labkit.status == status and "finished" in earlier.page.read_text()
        assert statuses(earlier) == ["completed", "completed", "interrupted", "pending"]


def test_of_two_runs_on_one_output_the_second_is_told_who_holds_it(tmp_path):
    marker, path = tmp_path / "marker", None
    path = written(tmp_path, f"open({str(marker)!r}, 'w').close()\nimport time\ntime.sleep(3)")
    first = subprocess.Popen(command(path, tmp_path / "out"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until = time.monotonic() + 60
    while not marker.exists():
        assert time.monotonic() < until and first.poll() is None
        time.sleep(0.05)
    with pytest.raises(atomic.OutputLocked, match=f"is being written by process {first.pid}, since"):
        report(path, out=tmp_path / "out")
    first.communicate()
    assert first.returncode == 0 and report(path, out=tmp_path / "out").verdict.code == 0


def test_a_full_disk_is_said_and_the_earlier_report_is_whole(tmp_path):
    earlier = made(tmp_path, "print('earlier')")
    before = earlier.notebook.read_bytes(), earlier.page.read_bytes()
    path = written(tmp_path, "print('x' * 300_000)")

    def small_files_only():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    done = subprocess.run(command(path, tmp_path / "out"), preexec_fn=small_files_only, capture_output=True, text=True)
    assert done.returncode == 1 and "nothing was written" in done.stderr and done.stderr.count("\n") <= 2
    assert (earlier.notebook.read_bytes(), earlier.page.read_bytes()) == before
    part = f"{earlier.notebook.stem}.part.ipynb"  # what there was before the disk was full
    assert files(tmp_path / "out") == sorted([earlier.notebook.name, earlier.page.name, part, html.SCRIPT])


def test_files_that_belong_together_are_both_written_or_neither(tmp_path, monkeypatch):
    one, other = tmp_path / "one", tmp_path / "other"
    atomic.write_together({one: "earlier", other: "earlier"})
    sync, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        atomic.write_together({one: "later", other: "later"})
    assert one.read_text() == other.read_text() == "earlier" and files(tmp_path) == ["one", "other"]


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_file_is_written_whole_or_not_at_all(broken, tmp_path, monkeypatch):
    path = tmp_path / "file"
    atomic.write(path, "earlier")

    def fail(*of):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError):
        atomic.write(path, "later")
    assert path.read_text() == "earlier" and files(tmp_path) == ["file"]


# The command line


def test_a_refusal_is_one_line_and_touches_nothing(tmp_path, capsys):
    path = written(tmp_path)
    assert main(["report", str(path), "-p", "depht", "3", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "Did you mean 'depth'?" in said and not (tmp_path / "out").exists()


def test_a_refusal_is_quick(tmp_path):
    path = written(tmp_path)
    began = time.perf_counter()
    done = subprocess.run(command(path, tmp_path / "out", "-p", "depth", "many"), capture_output=True)
    assert done.returncode == 2 and time.perf_counter() - began < 20  # ten times the target, which the bench measures


def test_the_parameters_of_a_notebook_are_listed(tmp_path, capsys):
    assert main(["report", str(written(tmp_path)), "--help-notebook"]) == 0
    said = capsys.readouterr().out
    assert "depth = 3: hidden layers (a whole number from 0 to 100)" in said and "what to call it (text)" in said
    assert main(["report", "notebooks/01_playground.ipynb", "--help-notebook"]) == 0
    assert "(one of mse, cross_entropy, huber)" in capsys.readouterr().out


def test_the_command_line_gives_the_exit_code_and_the_names(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["report", str(written(tmp_path)), "-p", "depth", "5", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "done after" in printed and ".html" in printed
    assert main(["report", str(written(tmp_path, "1 / 0")), "--out", str(out)]) == 1
    assert "cell 2 raised ZeroDivisionError" in capsys.readouterr().err


def test_the_results_of_a_real_notebook_come_back(tmp_path):
    notebook = Path(__file__).parents[2] / "notebooks" / "00_start_here.ipynb"
    result = labkit.report(notebook, {"steps": 50}, out=tmp_path)
    assert result.verdict.code == 0 and result.results["live_equals_plain"] is True
    said = top(result)
    assert "torch 2" in said and "lab1." in said and re.search(r"<th>device</th><td>(cpu|cuda|mps)", said)
    assert result.page.stat().st_size < 300_000 and result.values["steps"] == 50


def test_two_kernels_never_share_their_sockets_and_leave_none(tmp_path):
    path = written(tmp_path, results="{'file': __import__('ipykernel').connect.get_connection_file()}")
    one, other = (Path(report(path, out=tmp_path / "out").results["file"]) for _ in range(2))
    assert one != other and not one.parent.exists() and not other.parent.exists()
    assert one.parent.name.startswith("labkit-") and one.parent.parent == Path(tempfile.gettempdir())
    short, long = execution._manager("/tmp/a")(), execution._manager("/" + 100 * "a")()
    assert (short.transport, short.ip, long.transport) == ("ipc", "/tmp/a/kernel", "tcp")
