"""Data flows one way through labkit, and so do imports; a folder does not know what it need not know."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
from conftest import ROOT

import labkit

BELOW = {  # folder → the folders it may import from; siblings do not know each other
    "storage": set(),
    "core": {"storage"},
    "landscape": {"storage", "core"},
    "plots": {"storage", "core"},
    "reports": {"storage", "core"},
    "lab": {"storage", "core", "landscape", "plots"},
    "cli": {"storage", "core", "landscape", "plots", "reports", "lab", "doctor"},
    "doctor": {"storage", "core"},
    "__main__": {"cli"},
    "__init__": set(),
}
DRAWING = {"plotly", "matplotlib", "PIL"}
WIDGETS = {"ipywidgets", "anywidget", "IPython", "traitlets"}
DOES_NOT_KNOW = {
    "storage": {"torch.nn", *WIDGETS, *DRAWING},
    "core": WIDGETS | DRAWING,
    "landscape": WIDGETS | DRAWING,
    "plots": {"torch", *WIDGETS},
    "reports": WIDGETS,
    "lab": {"papermill"},
}
FILES = {
    path.relative_to(ROOT / "labkit").with_suffix("").as_posix(): path
    for path in sorted((ROOT / "labkit").rglob("*.py"))
}
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def imports(tree):
    """Every module that a file imports, wherever in it: "torch", "labkit.core.spec"."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            home = "." if node.level else node.module  # a relative import stands in no folder that may be named
            found.add(home)
            if home == "labkit":
                found |= {f"labkit.{home_of(alias.name)}" for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "labkit":
            found.add(f"labkit.{home_of(node.attr)}")
    return found


def tree_of(name):
    return ast.parse(FILES[name].read_text(encoding="utf-8"))


def folder_of(name):
    return name.split("/")[0]


def home_of(name):
    """Where a public name of `labkit` lives."""
    return labkit._HOMES.get(name) or labkit._MODULES.get(name) or name


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import torch.nn as nn, os", {"torch.nn", "os"}),
        ("def f():\n    from plotly.subplots import make_subplots", {"plotly.subplots"}),
        ("from labkit import charts, Trainer", {"labkit", "labkit.plots.charts", "labkit.core.trainer"}),
        ("from .spec import Spec", {"."}),
        ("import labkit\nlabkit.Lab()", {"labkit", "labkit.lab.session"}),
    ],
)
def test_no_way_to_import_is_overlooked(code, found):
    assert imports(ast.parse(code)) == found


@pytest.mark.parametrize("name", FILES)
def test_imports_follow_the_arrow(name):
    folder = folder_of(name)
    known = {module.split(".")[1] for module in imports(tree_of(name)) if module.startswith("labkit.")}
    assert known - BELOW[folder] - {folder, "__version__"} == set()


@pytest.mark.parametrize("name", FILES)
def test_a_folder_does_not_know_what_it_need_not_know(name):
    known = imports(tree_of(name))
    known |= {module.split(".")[0] for module in known}
    assert known & DOES_NOT_KNOW.get(folder_of(name), set()) == set()


@pytest.mark.parametrize("name", ["core/rules", "core/spec", "core/costs", "reports/parameters"])
def test_choices_parameters_and_costs_need_the_standard_library_alone(name):
    assert {module.split(".")[0] for module in imports(tree_of(name))} - sys.stdlib_module_names <= {"labkit"}


@pytest.mark.parametrize("name", FILES)
def test_every_file_begins_with_what_it_holds(name):
    said = ast.get_docstring(tree_of(name))
    assert said and said.splitlines()[0].endswith((".", ":", "?"))


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_labkit_loads_none_of_it():
    code = (
        "import sys, labkit; dir(labkit); print(sorted(m for m in sys.modules if m.startswith(('labkit.', 'torch'))))"
    )
    assert python(code) == "[]"


def test_public_names_lead_somewhere():
    for name in (*labkit._HOMES, *labkit._MODULES):
        assert getattr(labkit, name) is not None
        assert name in dir(labkit)


def test_editors_see_the_names_that_load_on_first_use():
    stub = ast.parse((ROOT / "labkit/__init__.pyi").read_text())
    pairs = [(node.module, alias) for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert [alias.name for _, alias in pairs] == [alias.asname for _, alias in pairs]  # `as` makes them public
    names = {alias.name: f"{module}.{alias.name}" for module, alias in pairs}
    homes = {name: f"labkit.{home}.{name}" for name, home in labkit._HOMES.items()}
    assert names == homes | {name: f"labkit.{home}" for name, home in labkit._MODULES.items()}


@pytest.mark.parametrize("installed", [True, False])
def test_the_version_is_the_projects(installed, monkeypatch):
    if not installed:
        monkeypatch.setattr(labkit.metadata, "version", lambda name: metadata.distribution("no such package"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert labkit.__version__ == project["version"]


def test_earlier_names_go_on_working():
    for earlier, now in labkit._EARLIER.items():
        assert getattr(labkit, earlier) is getattr(labkit, now)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(AttributeError, match=r"labkit has no 'Sepc'; it has Spec, "):
        _ = labkit.Sepc


def test_training_works_on_a_machine_without_jupyter():
    code = """
import sys

class Blocker:
    missing = {"ipywidgets", "anywidget", "IPython", "ipykernel", "plotly", "jupyter_core", "papermill"}

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.missing:
            raise ModuleNotFoundError(f"no {name} here", name=name)

sys.meta_path.insert(0, Blocker())
import labkit.core.trainer, labkit.core.runs
print(len(labkit.train(labkit.Spec(steps=3)).loss))
"""
    assert python(code) == "3"


# Sizes, JavaScript, notebooks, pages


def is_long(name):
    lines = FILES[name].read_text(encoding="utf-8").splitlines()
    functions = [node for node in ast.walk(tree_of(name)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return len(lines) > 400 or any(node.end_lineno - node.lineno + 1 > 50 for node in functions)


def test_functions_have_at_most_50_lines_and_files_400():
    assert [name for name in FILES if is_long(name)] == []


def test_javascript_stands_in_files_of_its_own():
    sources = {name: path.read_text(encoding="utf-8") for name, path in FILES.items()}
    assert [name for name, source in sources.items() if re.search("export default|createElement", source)] == []


def uses_internals(notebook):
    """Whether a notebook takes anything from labkit that `labkit` itself does not offer."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    trees = [ast.parse("".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {node.attr for node in nodes if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "labkit"}
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.startswith("labkit.")}
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "labkit":
            names |= {alias.name for alias in node.names} if node.module == "labkit" else {node.module}
    return not names <= {*labkit.__all__, "__version__", "__file__"}


def test_notebooks_use_public_names_alone():
    notebooks = (ROOT / "notebooks").glob("*.ipynb")
    assert [path.stem for path in notebooks if uses_internals(path)] == []


def test_every_file_has_its_line_in_the_architecture():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]+)\.py`", text))
    assert {name for name in FILES if not name.endswith("/__init__")} - named == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_files_that_are_there(page):
    text = page.read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    files = re.findall(r"`((?:[\w.]+/)+[\w.]+\.(?:py|pyi|css|js))`", text)  # from the root, or from labkit/
    assert [link for link in links if not (page.parent / link).exists()] == []
    assert [file for file in files if not ((ROOT / file).exists() or (ROOT / "labkit" / file).exists())] == []


def test_the_readme_is_short_and_lists_every_notebook():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120 and len(text.split()) <= 1000
    assert {path.name for path in (ROOT / "notebooks").glob("*.ipynb")} == set(
        re.findall(r"notebooks/(\w+\.ipynb)\)", text)
    )


def test_the_readmes_example_runs():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    names = {}
    exec(code.replace(".show()", ""), names)
    assert names["run"].loss[-1] < names["run"].loss[0]
    assert len(names["runs"]) == 15
    assert names["plane"].loss.shape == (41, 41)
