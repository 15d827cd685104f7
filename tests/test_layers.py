"""Data flows one way through labkit, and so do imports; a room does not know what it need not know."""

import ast
import subprocess
import sys

import pytest
from conftest import ROOT

import labkit

ORDER = [
    "files", "spec", "parameters", "costs", "devices", "data", "tables", "losses", "optimizers", "network", "training",
    "pictures", "saving", "checkpoints", "runs", "planner", "sharded",
    "directions", "stacked", "ground", "landscape", "trails", "curvature", "connect", "signals", "survey",
    "frames", "relief", "charts", "figure", "explorer", "controls", "lookout", "screen", "renderer", "live",
    "pages", "stills", "execution", "reports", "index", "sweeps",
    "bench", "bench_live", "bench_landscape", "bench_reports", "doctor", "__main__",
]  # fmt: skip
DRAWING = {"plotly", "matplotlib", "PIL"}
WIDGETS = {"ipywidgets", "anywidget", "IPython", "ipykernel", "traitlets"}
ON_THE_SCREEN = ("figure", "explorer", "controls", "lookout", "screen", "renderer", "live")
WITHOUT_WIDGETS = [name for name in ORDER if name not in ON_THE_SCREEN]
DOES_NOT_KNOW = {
    **{name: WIDGETS for name in WITHOUT_WIDGETS},
    **{name: WIDGETS | DRAWING for name in ORDER[: ORDER.index("frames")]},
    "frames": {"torch", *WIDGETS},
    "relief": {"torch", *WIDGETS},
    "charts": {"torch", *WIDGETS},
    "figure": {"torch", "ipywidgets", "labkit"},
    "explorer": {"torch", "threading", "labkit.training", "labkit.runs"},
    "controls": {"torch", "labkit.training", "labkit.runs"},
    "lookout": {"torch", "threading", "labkit.training", "labkit.runs"},
    "screen": {"torch", "threading", "labkit.training", "labkit.runs"},
    "renderer": {"threading", "ipywidgets"},
    "live": {"papermill"},
    "training": {"pathlib", "os", "io", "json", "safetensors", *WIDGETS, *DRAWING},
}
FILES = {path.stem: path for path in sorted((ROOT / "labkit").glob("*.py")) if path.stem != "__init__"}
MODULES = list(FILES)


def imports(tree):
    """Every module that a file imports, wherever in it: "torch", "labkit.spec"."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            home = "labkit" if node.level else node.module
            home = f"labkit.{node.module}" if node.level and node.module else home
            found.add(home)
            if home == "labkit":
                found |= {f"labkit.{labkit._HOMES.get(alias.name, alias.name)}" for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "labkit":
            found.add(f"labkit.{labkit._HOMES.get(node.attr, node.attr)}")
    return found


def tree_of(name):
    return ast.parse(FILES[name].read_text(encoding="utf-8"))


def rooms(name):
    return {module.split(".")[1] for module in imports(tree_of(name)) if module.startswith("labkit.")} & set(ORDER)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import torch.nn as nn, os", {"torch.nn", "os"}),
        ("def f():\n    from plotly.subplots import make_subplots", {"plotly.subplots"}),
        ("from labkit import live, Trainer", {"labkit", "labkit.live", "labkit.training"}),
        ("from . import live", {"labkit", "labkit.live"}),
        ("from .spec import Spec", {"labkit.spec"}),
        ("import labkit\nlabkit.Lab()", {"labkit", "labkit.live"}),
    ],
)
def test_no_way_to_import_is_overlooked(code, found):
    assert imports(ast.parse(code)) == found


def test_every_file_has_its_place_in_the_order():
    assert [name for name in MODULES if name not in ORDER] == []
    assert len(MODULES) >= 9


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_up_the_table_alone(name):
    above = set(ORDER[: ORDER.index(name)])
    assert rooms(name) - above == set()


@pytest.mark.parametrize("name", MODULES)
def test_a_room_does_not_know_what_it_need_not_know(name):
    known = imports(tree_of(name))
    known |= {module.split(".")[0] for module in known}
    assert known & DOES_NOT_KNOW.get(name, set()) == set()


@pytest.mark.parametrize("name", ["spec", "parameters", "costs"])
def test_choices_parameters_and_costs_need_the_standard_library_alone(name):
    assert {module.split(".")[0] for module in imports(tree_of(name))} - sys.stdlib_module_names <= {"labkit"}
    assert rooms(name) <= {"spec"}


def test_what_training_is_made_of_stands_on_its_own():
    for name in ("data", "losses", "optimizers", "network"):
        assert rooms(name) <= {"spec", "costs", "data", "losses"}


@pytest.mark.parametrize("name", [*MODULES, "__init__"])
def test_every_file_begins_with_what_it_holds(name):
    said = ast.get_docstring(ast.parse((ROOT / f"labkit/{name}.py").read_text(encoding="utf-8")))
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


def test_public_names_lead_to_the_rooms_that_are_there():
    for name, home in labkit._HOMES.items():
        if home in FILES:
            assert getattr(labkit, name) is not None
        assert name in dir(labkit)


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
import labkit.training, labkit.runs
print(len(labkit.train(labkit.Spec(steps=3)).loss))
"""
    assert python(code) == "3"
