"""Parameters of a notebook: what is declared, what a value may be, and that nothing wrong comes through."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import labkit
from labkit.cli import main
from labkit.core.spec import Spec
from labkit.reports import parameters

FOLDER = Path(__file__).parents[2] / "notebooks"
CELL = """
depth: int = 3  # hidden layers
lr: float = 0.01  # learning rate
name: str | None = None  # what to call it
title: str = "a = b"  # text with an = in it
full: bool = False
sizes: list = [1, 2]  # some
options: dict = {}
either: int | str = 4
plain = 5  # not annotated
total: int = 3 * 4
loss: str = "mse"  # a field of Spec
kind: Literal["a", "b", 3] = "a"
table: str = ""  # or csv:PATH
import math
"""


def notebook(cell=CELL, tags=("parameters",)):
    return {"cells": [{"cell_type": "markdown"}, {"cell_type": "code", "source": cell, "metadata": {"tags": [*tags]}}]}


def read(**given):
    return parameters.checked(notebook(), given, typed=False)


def test_every_form_of_declaration_is_known():
    known = parameters.declared(notebook())
    kinds = {name: set(each.kinds) for name, each in known.items()}
    assert kinds == {
        "depth": {"int"}, "lr": {"float"}, "name": {"str", "None"}, "title": {"str"}, "full": {"bool"},
        "sizes": {"list"}, "options": {"dict"}, "either": {"int", "str"}, "plain": {"int"}, "loss": {"str"},
        "kind": {"int", "str"}, "table": {"str"},
    }  # fmt: skip
    assert known["depth"].about == "hidden layers" and known["title"].default == "a = b"


def test_a_cell_in_lines_is_one_source_and_a_notebook_without_parameters_has_none():
    assert list(parameters.declared(notebook(["depth: int = 3\n", "lr: float = 1.0"]))) == ["depth", "lr"]
    assert parameters.declared(notebook(tags=())) == {}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_notebook_of_the_lab_declares_its_parameters_and_takes_its_own_defaults(path):
    source = parameters.load(path)
    known = parameters.declared(source)
    assert known and all(each.about for each in known.values())
    assert parameters.checked(source, {name: each.default for name, each in known.items()})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("lr", "1e-3", 0.001),
        ("lr", "5", 5.0),
        ("lr", ".5", 0.5),
        ("depth", "+4", 4),
        ("full", "false", False),
        ("full", "True", True),
        ("name", "none", None),
        ("name", "no", "no"),
        ("title", "1e-3", "1e-3"),
        ("sizes", "[1, 'a']", [1, "a"]),
        ("either", "7", 7),
        ("either", "seven", "seven"),
        ("kind", "b", "b"),
        ("kind", "3", 3),
    ],
)
def test_a_text_becomes_a_value_of_the_declared_type(name, text, value):
    found = read(**{name: text})[name]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("depth", "2.5", "depth='2.5' is not allowed: depth takes a whole number."),
        ("depth", "1_0", "takes a whole number"),
        ("depth", "0x10", "takes a whole number"),
        ("depth", "٣", "takes a whole number"),
        ("depth", "true", "takes a whole number"),
        ("depth", "-1", "depth=-1 is not allowed: depth takes a whole number from 0 to 100"),
        ("depth", "9" * 400, "takes a whole number"),
        ("lr", "nan", "takes a finite number"),
        ("lr", "inf", "takes a finite number"),
        ("lr", "1e999", "takes a finite number"),
        ("lr", "", "takes a finite number"),
        ("full", "no", "full takes true or false"),
        ("full", "1", "full takes true or false"),
        ("loss", "husker", "Did you mean 'huber'"),
        ("sizes", "__import__('os')", "sizes takes a list"),
        ("kind", "bb", "kind='bb' is not allowed: kind takes one of a, b, 3. Did you mean 'b'?"),
        ("kind", "4", "kind=4 is not allowed: kind takes one of a, b, 3."),
        ("table", "csv:not there", "table='csv:not there' is not allowed: table takes csv:PATH"),
        ("depht", "3", "Did you mean 'depth'"),
        ("import os; os.system('touch here'); z", "1", "no parameter of this notebook"),
        ("total", "1", "no parameter of this notebook"),
        ("", "1", "no parameter of this notebook"),
    ],
)
def test_a_wrong_one_is_refused_with_its_name_and_what_is_allowed(name, text, words):
    with pytest.raises(ValueError) as refusal:
        read(**{name: text})
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("annotation", "default", "good", "bad"),
    [
        ("list[int]", "[1]", {"[2]": [2]}, ["5", "a"]),
        ("dict[str, float]", "{}", {"{'a': 1}": {"a": 1}}, ["hello", "1.5", "{[]: 1}", "{1: {2}}"]),
        ('Literal["a", "b"] | None', '"a"', {"b": "b", "none": None}, ["zzz", "1"]),
        ('typing.Literal["a"]', '"a"', {"a": "a"}, ["b"]),
        ("\"Literal['a', 'b']\"", '"a"', {"b": "b"}, ["c"]),
        ('Optional[Literal["a", "b"]]', "None", {"b": "b", "none": None}, ["c"]),
        ("Optional[int]", "3", {"none": None, "4": 4}, ["a"]),
        ("Union[int, str]", "3", {"x": "x", "4": 4}, []),
        ('Literal["a"] | int', '"a"', {"7": 7, "a": "a"}, []),
        ('Literal[1, "2"]', "1", {"2": "2", "1": 1}, ["3"]),
    ],
)
def test_an_annotation_is_read_as_python_reads_it(annotation, default, good, bad):
    source = notebook(f"x: {annotation} = {default}")
    for text, value in good.items():
        found = parameters.checked(source, {"x": text}, typed=False)["x"]
        assert found == value and type(found) is type(value)
    for text in bad:
        with pytest.raises(ValueError, match=r"x=.* is not allowed"):
            parameters.checked(source, {"x": text}, typed=False)


def test_what_no_file_can_hold_is_refused_and_a_number_of_numpys_is_a_number():
    with pytest.raises(ValueError, match=r"title=.* is not allowed: title takes text"):
        read(title="\udcff")
    with pytest.raises(ValueError, match=r"options=.* is not allowed"):
        parameters.checked(notebook(), {"options": {"x": {1, 2}}})
    with pytest.raises(ValueError, match=r"depth=.* is not allowed"):
        parameters.checked(notebook(), {"depth": 10**5000})
    found = parameters.checked(notebook(), {"lr": np.float64(0.5), "depth": np.int64(4), "full": True})
    assert found == {"lr": 0.5, "depth": 4, "full": True} and type(found["depth"]) is int


def coded(source, *tags):
    return {"cell_type": "code", "source": source, "metadata": {"tags": [*tags]}}


def loaded(folder, *cells):
    (folder / "some.ipynb").write_text(json.dumps({"cells": [*cells]}))
    return parameters.load(folder / "some.ipynb")


GIVEN = "# Parameters\ndepth = 4\nlr = 1\nextra = 'x'"


def test_what_an_earlier_run_was_given_are_the_defaults_of_the_next(tmp_path):
    cells = coded(CELL, "parameters"), coded(["depth = 5\n", "lr = 1"], "injected-parameters"), coded("extra = 1")
    source = loaded(tmp_path, *cells, coded(GIVEN, "injected-parameters"))
    known = parameters.declared(source)
    assert [cell["source"] for cell in source["cells"][1:]] == ["extra = 1"]
    assert (known["depth"].default, known["lr"].default, known["extra"].default) == (4, 1, "x")
    assert known["depth"].about == "hidden layers" and known["lr"].kinds == ("int", "float")
    assert parameters.checked(source, {"depth": "6"}, typed=False) == {"depth": 6}
    alone = loaded(tmp_path, coded("1"), coded(GIVEN, "injected-parameters"), coded("2"))
    assert list(parameters.declared(alone)) == ["depth", "lr", "extra"] and len(alone["cells"]) == 3


@pytest.mark.parametrize("more", ["depth += 1", "depth = lr", "depth = max(1, 2)", "depth = {1, 2}"])
def test_a_name_that_is_computed_in_the_end_is_no_parameter(more):
    assert "depth" in parameters.declared(notebook()) and "depth" not in parameters.declared(notebook(CELL + more))


@pytest.mark.parametrize("kinds", [("parameters", "parameters"), ("parameters", "x", "parameters", "parameters")])
def test_several_cells_of_parameters_are_refused(kinds, tmp_path, capsys):
    source = loaded(tmp_path, *(coded(f"depth = {k}", kind) for k, kind in enumerate(kinds)))
    with pytest.raises(ValueError, match=r"\d cells of the notebook are tagged 'parameters': keep the tag on one"):
        parameters.checked(source, {})
    for words in (["report"], ["report", "--help-notebook"], ["sweep", "-g", "depth", "1,2"]):
        assert main([*words, str(tmp_path / "some.ipynb"), "--out", str(tmp_path / "out")]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, True, "3"])
def test_limits_of_a_run_are_checked(seconds):
    with pytest.raises(ValueError, match=r"seconds=.* is not allowed: seconds takes a number above 0"):
        labkit.report("missing.ipynb", seconds=seconds)
    with pytest.raises(ValueError, match="workers=0 is not allowed: workers takes a whole number from 1"):
        labkit.sweep("missing.ipynb", {}, workers=0)


@pytest.mark.parametrize("part", [{"metadata": None}, {"metadata": {"tags": None}}, {"source": None}, {"source": [1]}])
def test_a_cell_that_is_none_is_refused(part, tmp_path):
    (tmp_path / "some.ipynb").write_text(json.dumps({"cells": [{"cell_type": "code", "source": "", **part}]}))
    with pytest.raises(ValueError, match="is not a notebook of format 4"):
        parameters.load(tmp_path / "some.ipynb")


@pytest.mark.parametrize("value", [True, 2.0, "3", None, [3], math.nan])
def test_from_python_a_value_must_have_the_type(value):
    with pytest.raises(ValueError, match="depth="):
        parameters.checked(notebook(), {"depth": value})


def test_from_python_a_whole_number_serves_as_a_number():
    assert parameters.checked(notebook(), {"lr": 1}) == {"lr": 1.0}


def test_what_rules_each_other_out_is_refused_only_where_the_notebook_declares_both():
    both = 'dataset: str = "spiral"\nloss: str = "cross_entropy"\n'
    with pytest.raises(ValueError, match="cross entropy compares class"):
        parameters.checked(notebook(both), {"dataset": "bumps"})
    assert parameters.checked(notebook('dataset: str = "spiral"'), {"dataset": "bumps"})
    assert parameters.checked(notebook(both + "batch_size: int = 32"), {"batch_size": 100_000})
    with pytest.raises(ValueError, match="400 training samples"):
        parameters.checked(notebook(both + "batch_size: int = 32\nsamples: int = 500"), {"batch_size": 401})


def test_a_device_that_this_machine_cannot_have_is_refused_unless_another_is_to_run_it(monkeypatch):
    declares = notebook('device: str = "auto"')
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0+cpu")
    with pytest.raises(ValueError, match=r"device='cuda' is not allowed: torch 2.13.0\+cpu is built without CUDA"):
        parameters.checked(declares, {"device": "cuda"})
    with pytest.raises(ValueError, match="device='mps' is not allowed: only a Mac has an Apple GPU"):
        parameters.checked(declares, {"device": "mps"})
    assert parameters.checked(declares, {"device": "cuda"}, here=False) == {"device": "cuda"}
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0")
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter([self / pattern] if pattern == "nvidia*" else []))
    assert parameters.checked(declares, {"device": "cuda"}) == {"device": "cuda"}
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter([]))
    with pytest.raises(ValueError, match="this machine has no NVIDIA GPU"):
        parameters.checked(declares, {"device": "cuda"})


@pytest.mark.parametrize(
    ("text", "words"),
    [("{}", "no list of cells"), ("[1", "no JSON"), ('{"cells": [1]}', "no list of cells"), ("[" * 100_000, "no JSON")],
)
def test_what_is_no_notebook_is_refused(tmp_path, text, words):
    (tmp_path / "some.ipynb").write_text(text)
    with pytest.raises(ValueError, match=words):
        parameters.load(tmp_path / "some.ipynb")
    with pytest.raises(ValueError, match=r"No such file or directory. Did you mean 'some.ipynb'\?"):
        parameters.load(tmp_path / "sone.ipynb")
    with pytest.raises(ValueError, match="cannot be read"):
        parameters.load(tmp_path)


def test_a_cell_that_is_not_python_is_refused():
    with pytest.raises(ValueError, match="cell of parameters is not Python"):
        parameters.declared(notebook("depth: int = = 3"))


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30), st.text(max_size=30))
def test_whatever_is_typed_it_is_refused_in_one_line_or_taken_as_declared(name, text):
    try:
        found = read(**{name: text})
    except ValueError as refusal:
        assert "\n" not in str(refusal)
    else:
        assert name in parameters.declared(notebook()) and json.loads(json.dumps(found)) == found


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["depth", "lr", "full", "loss", "sizes"]), st.text(max_size=30) | st.floats().map(str))
def test_whatever_is_typed_for_a_known_name_it_is_taken_only_as_declared(name, text):
    try:
        value = read(**{name: text})[name]
    except ValueError as refusal:
        assert str(refusal).startswith(f"{name}=")
        return
    kinds = {"depth": int, "lr": float, "full": bool, "loss": str, "sizes": list}
    assert type(value) is kinds[name]
    if name in ("depth", "lr", "loss"):
        assert (
            getattr(Spec(**{"dataset": "bumps", "loss": "mse"} | {name: value}), name) == value
            or value == "cross_entropy"
        )


def test_checking_imports_nothing_heavy():
    code = """
import sys
from labkit.reports import parameters
notebook = parameters.load(sys.argv[1])
parameters.checked(notebook, {"seed": "3"}, typed=False)
print([name for name in ("torch", "numpy", "nbformat", "papermill", "plotly", "ipywidgets") if name in sys.modules])
"""
    command = [sys.executable, "-c", code, str(FOLDER / "01_playground.ipynb")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
