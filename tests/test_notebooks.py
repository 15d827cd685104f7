"""Every notebook keeps its form, runs top to bottom as a report, and comes to the numbers that its prose claims."""

import ast
import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest

import labkit
from labkit.spec import Spec

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
SECTIONS = ["Guess first", "Try it", "Exercise", "Check yourself", "Summary", "References"]
SPEC = Spec(samples=100, width=8, steps=300, device="cpu")

each = pytest.mark.parametrize("name", NOTEBOOKS)


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=nbformat.NO_CONVERT)


def cells(name, kind):
    return [cell for cell in read(name).cells if cell.cell_type == kind]


def tagged(notebook, tag):
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


# Form


@each
def test_a_notebook_is_valid_of_format_4_5_and_names_its_kernel(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


@each
def test_a_notebook_holds_no_outputs(name):
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells(name, "code"))
    assert "widgets" not in read(name).metadata


@each
def test_a_notebook_begins_with_its_title_its_question_its_minutes_and_its_chinese_title(name):
    first, second = read(name).cells[:2]
    assert first.cell_type == second.cell_type == "markdown"
    title, _, question, _, below = first.source.splitlines()
    assert title.startswith("# ") and question.startswith("> ") and "?" in question
    assert re.fullmatch(r"\d+ minutes · .*[\u4e00-\u9fff].*", below)
    assert second.source.startswith("**You will**") and second.source.count("\n- ") >= 2


@each
def test_a_notebook_has_its_sections_in_order(name):
    text = "\n".join(cell.source for cell in cells(name, "markdown"))
    found = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert [section for section in found if section in SECTIONS] == SECTIONS
    assert "$$" in text and "The same without a person" in text and "<details><summary>" in text
    questions = text.split("## Check yourself")[1].split("\n## ")[0]
    assert re.findall(r"^(\d)\. .*\?$", questions, re.M) == list("1234")


@each
def test_a_notebook_has_one_parameters_cell_typed_and_commented(name):
    (cell,) = tagged(read(name), "parameters")
    for line, statement in zip(cell.source.splitlines(), ast.parse(cell.source).body, strict=True):
        assert isinstance(statement, ast.AnnAssign), line
        kind, value = statement.annotation.id, ast.literal_eval(statement.value)
        assert type(value).__name__ == kind and re.search(r"  # \S.{3,}", line), line


@each
def test_a_notebook_ends_with_one_results_cell_that_is_a_dict(name):
    notebook = read(name)
    (cell,) = tagged(notebook, "results")
    assert cell is notebook.cells[-1]
    (statement,) = ast.parse(cell.source).body
    assert isinstance(statement.value, ast.Dict)


@each
def test_code_cells_are_short_and_hide_nothing(name):
    sources = [cell.source for cell in cells(name, "code")]
    assert statistics.median(len(source.splitlines()) for source in sources) <= 5
    assert not any("@title" in source or source.startswith("%%") for source in sources)
    assert all(cell.metadata.get("jupyter", {}) == {} for cell in read(name).cells)


@each
def test_links_to_other_notebooks_lead_somewhere(name):
    for cell in cells(name, "markdown"):
        for target in re.findall(r"\]\((?!http)([^)#]+)", cell.source):
            assert (FOLDER / target).exists(), target


# Reports: papermill, two at a time, and what it does not see


class Report:
    """A notebook that papermill has run."""

    def __init__(self, source, out, parameters, cwd):
        self.out = out
        command = [sys.executable, "-m", "papermill", "--no-progress-bar", str(source), str(out)]
        for key, value in parameters.items():
            command += ["-p", key, str(value)]
        env = os.environ | {"IPYTHONDIR": str(out.parent / "ipython")}
        self.done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)

    def check(self):
        """Fail with what went wrong, if anything did."""
        assert self.done.returncode == 0, self.done.stderr[-3000:]
        assert not self.hidden_errors(), self.hidden_errors()
        assert self.out.stat().st_size < 1_000_000
        assert longest(json.loads(self.out.read_text())) < 100_000  # nothing of plotly.js
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


OTHER = {
    "a regression": ("01_playground", {"dataset": "bumps", "loss": "huber", "depth": 1, "steps": 200}),
    "ten classes": ("01_playground", {"dataset": "digits", "steps": 60}),
    "elsewhere": ("00_start_here", {}),
    "another ground": ("05_loss_landscapes", {"dataset": "bumps", "loss": "mse", "depth": 3, "steps": 300}),
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Every report of this file, being made two at a time: name → a future of it."""
    folder = tmp_path_factory.mktemp("reports")
    pool = ThreadPoolExecutor(2)
    jobs = {name: (FOLDER / f"{name}.ipynb", {}, FOLDER) for name in reversed(NOTEBOOKS)}
    jobs |= {name: (FOLDER / f"{source}.ipynb", choices, folder) for name, (source, choices) in OTHER.items()}
    jobs["identical"] = (written(folder / "tiny.ipynb", IDENTICAL), {}, folder)
    jobs["hidden"] = (written(folder / "broken.ipynb", HIDDEN), {}, folder)
    yield {
        name: pool.submit(Report, source, folder / f"{name} out.ipynb", choices, cwd)
        for name, (source, choices, cwd) in jobs.items()
    }
    pool.shutdown(cancel_futures=True)


def written(path, sources):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    notebook.cells[-1].metadata.tags = ["results"]
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)
    return path


@each
def test_a_notebook_runs_top_to_bottom_and_hides_no_error(name, reports):
    report = reports[name].result().check()
    assert isinstance(report.results(), dict)
    charts = [o for cell in report.notebook().cells for o in cell.get("outputs", []) if PLOTLY in o.get("data", {})]
    assert charts and all(len(chart.data[PLOTLY]["data"]) > 1 for chart in charts)


PLOTLY = "application/vnd.plotly.v1+json"


def start_here(results):
    assert results["live_equals_plain"] is True and results["diverged"] is None
    assert results["test_loss"] < results["first_loss"]
    assert results["test_accuracy"] > 0.6


def playground(results):
    assert results["score"] >= 0.95 and results["diverged"] is None
    assert results["median_by_depth"][0] < 0.75 < 0.95 < results["median_by_depth"][3]
    by_loss = results["median_by_loss"]
    assert set(by_loss) == {"mse", "huber", "cross_entropy"} and max(by_loss.values()) - min(by_loss.values()) < 0.05
    assert max(results["median_of_sgd_by_lr"].values()) >= 0.95
    assert results["parameters"] == labkit.cost(Spec()).parameters
    assert results["test_loss"] < results["first_loss"]


def landscapes(results):
    assert results["cell_apart"] < 1e-5 and results["apart_filter"] < 1e-4 < 0.1 < results["apart_raw"]
    width, batch = results["basin_by_width"], results["basin_by_batch"]
    assert width[4] < width[16] < width[64] and batch[8] > batch[32] > batch[0]
    assert results["basin_by_optimizer"]["sgd"] > results["basin_by_optimizer"]["adam"]
    assert results["explained"] > 0.5 and results["misled"]["adam"] > 100
    assert 0.95 < results["edge"] < 1.05
    barriers = results["barriers"]
    assert barriers["curve"] < 0.05 * barriers["straight"] and barriers["matched"] < 0.5 * barriers["straight"]


CLAIMS = {"00_start_here": start_here, "01_playground": playground, "05_loss_landscapes": landscapes}


@each
def test_a_notebook_comes_to_the_numbers_that_it_claims(name, reports):
    CLAIMS[name](reports[name].result().check().results())


@pytest.mark.parametrize("other", OTHER)
def test_a_notebook_runs_with_other_parameters_and_from_another_folder(other, reports):
    report = reports[other].result().check()
    results = report.results()
    assert results["diverged"] is None
    if other == "elsewhere":
        assert results == reports[OTHER[other][0]].result().results()
    else:
        assert results["parameters"] == labkit.cost(Spec().but(**{"loss": "mse"} | OTHER[other][1])).parameters


# The same numbers live, by `train` and under papermill

DIGEST = "hashlib.sha256(run.loss.tobytes() + run.test_loss.tobytes()).hexdigest()"
IDENTICAL = [
    "import hashlib\n\nimport labkit",
    f"lab = labkit.Lab(labkit.Spec(**{SPEC.changed!r}))\nlab",
    "run = lab.run()",
    DIGEST,
]


def test_losses_are_the_same_to_the_last_bit_live_by_train_and_under_papermill(reports):
    report = reports["identical"].result().check()
    lab = labkit.Lab(SPEC)
    lab.screen.buttons["Train"].click()
    for run in (labkit.train(SPEC), lab.result()):
        assert eval(DIGEST, {"hashlib": hashlib, "run": run}) == report.results()
    lab.close()


# What finds hidden errors does find them

HIDDEN = [
    "import threading\n\nthread = threading.Thread(target=lambda: 1 / 0)\nthread.start()\nthread.join()",
    "import ipywidgets\n\nout = ipywidgets.Output()\nwith out:\n    raise KeyError('in a widget')",
    "out",
    "1",
]


def test_errors_that_papermill_does_not_see_are_found(reports):
    report = reports["hidden"].result()
    assert report.done.returncode == 0
    in_thread, in_widget = report.hidden_errors()
    assert "ZeroDivisionError" in in_thread and "in a widget" in in_widget


def test_the_solution_of_the_playground_solves_its_exercise():
    (text,) = [cell.source for cell in read("01_playground").cells if "<summary>A solution</summary>" in cell.source]
    spec = eval(re.search(r"`(labkit\.Spec\(.+?\))`", text)[1])
    assert labkit.cost(spec).parameters < 100
    assert labkit.train(spec).score[-1] >= 0.95
