"""Every notebook keeps its form, runs top to bottom as a report, and comes to the numbers that its prose claims."""

import ast
import hashlib
import re
import statistics
import subprocess
from functools import cache
from pathlib import Path

import evidence
import nbformat
import numpy as np
import pytest
from claims import CLAIMS, FALLING, RISING, below, between, holds, near
from executed import Report, apart, tagged
from sklearn.datasets import load_iris

import labkit
from labkit.core.spec import Spec
from labkit.reports.html import PLOTLY

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
SECTIONS = ["Guess first", "Try it", "Exercise", "Check yourself", "Summary", "References"]
SPEC = Spec(samples=100, width=8, steps=300, device="cpu")

each = pytest.mark.parametrize("name", NOTEBOOKS[::-1])  # the longest first


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=nbformat.NO_CONVERT)


def cells(name, kind):
    return [cell for cell in read(name).cells if cell.cell_type == kind]


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
    head = "from typing import Literal\n\n"
    lines = cell.source.removeprefix(head).splitlines()
    for line, statement in zip(lines, ast.parse(cell.source.removeprefix(head)).body, strict=True):
        assert isinstance(statement, ast.AnnAssign) and re.search(r"  # \S.{3,}", line), line
        value, kind = ast.literal_eval(statement.value), ast.unparse(statement.annotation)
        allowed = kind.startswith("Literal[") and value in ast.literal_eval(kind.removeprefix("Literal"))
        assert allowed or type(value).__name__ == kind, line


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
def test_no_cell_asserts(name):
    trees = [ast.parse(cell.source) for cell in cells(name, "code")]
    assert not any(isinstance(node, ast.Assert) for tree in trees for node in ast.walk(tree))


@each
def test_links_to_other_notebooks_lead_somewhere(name):
    for cell in cells(name, "markdown"):
        for target in re.findall(r"\]\((?!http)([^)#]+)", cell.source):
            assert (FOLDER / target).exists(), target


# Reports: papermill, and what it does not see


OTHER = {
    "a regression": ("01_playground", {"dataset": "bumps", "loss": "huber", "depth": 1, "steps": 200}),
    "ten classes": ("01_playground", {"dataset": "digits", "steps": 60}),
    "elsewhere": ("00_start_here", {}),
    "another ground": ("05_loss_landscapes", {"dataset": "bumps", "loss": "mse", "depth": 3, "steps": 300}),
    "a regression's units": (
        "02_networks_and_parameters",
        {"dataset": "bumps", "loss": "mse", "depth": 1, "steps": 300},
    ),
    "ten classes downhill": ("04_gradient_descent_to_adam", {"dataset": "digits", "steps": 60}),
    "a teacher of four inputs and a plane to plan for": (
        "07_bigger_models",
        {"inputs": 4, "own": "plane", "seconds": 0.2, "seed": 3},
    ),
    "a small network to serve": ("08_hardware_and_serving", {"depth": 1, "width": 48, "budget_ms": 0.2, "seed": 2}),
    "wines, and few of them": ("09_data", {"table": "wine", "noise_share": 0.1, "copies": 4, "steps": 300, "seed": 3}),
    "a regression explained": (
        "10_interpretability",
        {"dataset": "bumps", "table": "diabetes", "planted": 3, "inputs": 8, "depth": 1, "steps": 400, "seed": 2},
    ),
    "few people and a small budget": (
        "11_privacy",
        {"people": 200, "noise_share": 0.1, "width": 32, "steps": 300, "epsilon": 0.5, "passphrases": 5, "seed": 4},
    ),
    "few samples": ("06_the_article_network", {"samples": 300, "steps": 20}),
    "a table of classes": (
        "12_your_own_experiment",
        {"table": "csv:iris.csv", "loss": "cross_entropy", "width": 8, "steps": 200, "out": "classes"},
    ),
    "no outliers": ("03_loss_functions", {"outliers": 0.0, "samples": 100, "depth": 1, "steps": 300}),
}
ALWAYS = ("00_start_here", "01_playground", "03_loss_functions")  # the quick ones
COUNTED = ("01_playground", "05_loss_landscapes")  # whose results count the parameters of the spec as it was given


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """Run a notebook when the first test asks for it, and keep the report for the others."""
    folder = tmp_path_factory.mktemp("reports")
    table = load_iris()
    np.savetxt(folder / "iris.csv", np.column_stack([table.data, table.target]), delimiter=",")

    @cache
    def made(name):
        if name in OTHER:
            (source, choices), cwd = OTHER[name], folder
        else:
            source, choices, cwd = name, apart(FOLDER / f"{name}.ipynb", folder), FOLDER
        return Report(FOLDER / f"{source}.ipynb", folder / f"{name} out.ipynb", choices, cwd)

    return made


def written(path, sources):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    notebook.cells[-1].metadata.tags = ["results"]
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)
    return path


@each
def test_a_notebook_runs_top_to_bottom_and_hides_no_error(name, report):
    done = report(name).check()
    assert isinstance(done.results(), dict)
    charts = [o for cell in done.notebook().cells for o in cell.get("outputs", []) if PLOTLY in o.get("data", {})]
    assert charts and all(len(chart.data[PLOTLY]["data"]) > 1 for chart in charts)


@each
def test_a_notebook_comes_to_the_numbers_that_it_claims(name, report):
    claims = list(CLAIMS[name](report(name).check().results(), False))
    assert len(claims) >= 4
    assert [claim for claim in claims if not holds(*claim[1:])] == []


@pytest.mark.parametrize(
    ("measured", "expected", "good"),
    [
        (699_905, 699_905, True),
        (699_904, 699_905, False),
        (0.96, between(0.95, 1), True),
        ([0.96, 0.94], between(0.95, 1), False),
        ([], between(0.95, 1), False),
        (float("nan"), between(0, 1), False),
        (float("nan"), below(1), False),
        (-1.09, near(-1, 0.1), True),
        (0.1, near(1 / 6, 0.1), False),
        ([1, 2, 3], RISING, True),
        ([3, 2, 2], FALLING, False),
    ],
)
def test_claims_are_judged_as_they_are_meant(measured, expected, good):
    assert holds(measured, expected) is good


def test_evidence_says_which_claim_fails_and_ends_with_1(monkeypatch, capsys, tmp_path):
    sources = ["full: bool = False", '{"half": 0.5, "full": full}']
    notebook = written(tmp_path / "tiny.ipynb", sources)
    both = nbformat.read(notebook, as_version=4)
    both.cells[0].metadata.tags = ["parameters"]
    nbformat.write(both, notebook)
    claims = {"tiny": lambda r, full: iter([("a half", r["half"], 0.5), ("in full", r["full"], full)])}
    monkeypatch.setattr(evidence, "FOLDER", tmp_path)
    monkeypatch.setattr(evidence, "CLAIMS", claims)
    assert evidence.main([]) == 0 and "every claim holds" in capsys.readouterr().out
    claims["tiny"] = lambda r, full: iter([("a third", r["half"], between(0.3, 0.4))])
    assert evidence.main(["tiny"]) == 1 and "NO  a third" in capsys.readouterr().out
    claims["gone"] = claims["tiny"]
    assert evidence.main(["gone"]) == 1 and "BROKEN" in capsys.readouterr().out
    assert evidence.main(["elsewhere"]) == 2


def changed(name):
    """Whether a notebook differs from the commit before this one; so it counts where git cannot tell."""
    words = ["git", "diff", "--quiet", "HEAD~1", "--", f"{name}.ipynb"]
    return subprocess.run(words, cwd=FOLDER, stdin=subprocess.DEVNULL, capture_output=True).returncode != 0


@pytest.mark.parametrize("other", OTHER)
def test_a_notebook_runs_with_other_parameters_and_from_another_folder(other, report):
    if OTHER[other][0] not in ALWAYS and not changed(OTHER[other][0]):
        pytest.skip("the notebook is as the commit before left it")
    results = report(other).check().results()
    assert results["diverged"] is None
    if other == "elsewhere":
        assert results == report(OTHER[other][0]).results()
    if OTHER[other][0] in COUNTED:
        assert results["parameters"] == labkit.cost(Spec().but(**{"loss": "mse"} | OTHER[other][1])).parameters


# The same numbers live, by `train` and under papermill

DIGEST = "hashlib.sha256(run.loss.tobytes() + run.test_loss.tobytes()).hexdigest()"
IDENTICAL = [
    "import hashlib\n\nimport labkit",
    f"lab = labkit.Lab(labkit.Spec(**{SPEC.changed!r}))\nlab",
    "run = lab.run()",
    DIGEST,
]


def test_losses_are_the_same_to_the_last_bit_live_by_train_and_under_papermill(tmp_path):
    report = Report(written(tmp_path / "tiny.ipynb", IDENTICAL), tmp_path / "out.ipynb", {}, tmp_path).check()
    lab = labkit.Lab(SPEC)
    lab.worker.commands.ask("train")
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


def test_errors_that_papermill_does_not_see_are_found(tmp_path):
    report = Report(written(tmp_path / "broken.ipynb", HIDDEN), tmp_path / "out.ipynb", {}, tmp_path)
    assert report.done.returncode == 0
    in_thread, in_widget = report.hidden_errors()
    assert "ZeroDivisionError" in in_thread and "in a widget" in in_widget


def test_the_solution_of_the_playground_solves_its_exercise():
    (text,) = [cell.source for cell in read("01_playground").cells if "<summary>A solution</summary>" in cell.source]
    spec = eval(re.search(r"`(labkit\.Spec\(.+?\))`", text)[1])
    assert labkit.cost(spec).parameters < 100
    assert labkit.train(spec).score[-1] >= 0.95
