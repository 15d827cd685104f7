"""The set-up: its files agree, `make` says what is missing, and a notebook opens without a question."""

import os
import re
import shutil
import subprocess
import sys
import tomllib

import nbformat
import pytest
import yaml
from conftest import ROOT
from packaging.requirements import Requirement

FAKE_PYTHON = """#!/bin/sh
# Stands in for Python and pip, as far as the Makefile asks: quick, and without a network.
case "$*" in
    --version) echo "Python 3.9.2" ;;
    *version_info*) [ "$FAKE" != old ] ;;
    *ensurepip*) [ "$FAKE" != no-venv ] ;;
    "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    "-m pip "*) echo pip-ran; [ "$FAKE" != offline ] ;;
    *print*) echo yes ;;
esac
"""


def dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    return [Requirement(line) for line in project["dependencies"] + extras]


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pairs}


@pytest.mark.parametrize("dependency", dependencies(), ids=str)
def test_every_dependency_is_pinned_within_its_bound(dependency):
    assert pins()[dependency.name] in dependency.specifier


def test_bounds_are_lower_bounds():
    assert {bound.operator for dependency in dependencies() for bound in dependency.specifier} == {">="}


def test_pins_hold_for_cpu_and_gpu():
    assert pins()["torch"] == "2.13.0"
    assert "labkit" not in pins()
    assert not [version for version in pins().values() if not re.fullmatch(r"[0-9.]+", version)]


def test_environment_takes_the_same_set():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *_, pip = environment["dependencies"]
    assert environment["name"] == "labkit"
    assert pip["pip"] == ["-c constraints.txt", "-e .[serve,trust,test]"]


@pytest.fixture
def make(tmp_path):
    """Runs make in a copy of the set-up, in a folder whose name has a space, with a stand-in for Python."""
    if shutil.which("make") is None:
        pytest.skip("no make here")
    folder = tmp_path / "my lab"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    fake = tmp_path / "fake-python"
    fake.write_text(FAKE_PYTHON)
    fake.chmod(0o755)

    def run(*words, fake="good"):
        # `make test` runs these tests: what it says to its own children is not for the make started here.
        env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        env |= {"FAKE": fake, "GIT_CEILING_DIRECTORIES": str(tmp_path)}
        command = ["make", *words, f"PYTHON={tmp_path / 'fake-python'}"]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
        lines = (done.stdout + done.stderr).splitlines()
        done.lines = [line for line in lines if not line.startswith("make:")]
        return done

    run.folder = folder
    run.stamp = folder / ".venv/.stamp"
    return run


def test_make_alone_lists_its_targets(make):
    listed = [line.split()[1] for line in make().lines]
    assert listed == ["help", "lab", "check", "test", "evidence", "faults", "bench", "reset", "clean"]


@pytest.mark.parametrize(("target", "which"), [("check", ' -m "not slow"'), ("test", "")])
def test_make_checks_style_and_types_and_runs_the_tests(make, target, which):
    done = make("-n", target)
    assert done.returncode == 0
    tools = [line.split("bin/python -m ")[1] for line in done.lines[-4:]]
    assert tools[:3] == ["ruff check .", "ruff format --check .", "mypy"]
    assert tools[3] == f"pytest -n 2 --dist loadscope --no-loadscope-reorder{which}"


@pytest.mark.parametrize("fault, words", [("old", "Python 3.9.2"), ("no-venv", "apt install python3-venv")])
def test_unfit_python_is_one_clear_line(make, fault, words):
    done = make("test", fake=fault)
    assert done.returncode
    assert len(done.lines) == 1
    assert words in done.lines[0]
    assert not make.stamp.exists()


def test_missing_python_is_one_clear_line(make):
    (make.folder.parent / "fake-python").unlink()
    done = make("test")
    assert done.returncode
    assert len(done.lines) == 1
    assert "needs Python 3.11 or newer" in done.lines[0]


def test_set_up_happens_once(make):
    assert make(".venv/.stamp").lines[0].startswith("Building .venv")
    assert make.stamp.read_text().strip() == str(make.folder.resolve())
    assert make(".venv/.stamp").lines == []


def test_changed_needs_update_the_venv_in_place(make):
    make(".venv/.stamp")
    (make.folder / ".venv/mark").touch()
    os.utime(make.stamp, (0, 0))
    assert "up to date" in make(".venv/.stamp").lines[0]
    assert (make.folder / ".venv/mark").exists()
    assert make(".venv/.stamp").lines == []


def test_failing_pip_leaves_no_stamp_and_says_what_to_do(make):
    done = make("test", fake="offline")
    assert done.returncode
    assert "run the same make again" in done.lines[-1]
    assert not make.stamp.exists()
    assert "building it again" in make(".venv/.stamp").lines[0]
    assert make.stamp.exists()


@pytest.mark.parametrize("fault", ["no stamp", "no Python", "moved"])
def test_half_made_venv_is_built_again(make, fault):
    make(".venv/.stamp")
    (make.folder / ".venv/mark").touch()
    if fault == "no stamp":
        make.stamp.unlink()
    elif fault == "no Python":
        (make.folder / ".venv/bin/python").unlink()
    else:
        make.stamp.write_text("/another/folder\n")
    assert "building it again" in make(".venv/.stamp").lines[0]
    assert not (make.folder / ".venv/mark").exists()
    assert make.stamp.exists()


def test_reset_keeps_what_a_person_wrote(make):
    assert "git clone" in make("reset").lines[0]
    (make.folder / "notebooks").mkdir()
    changed, same, gone = (make.folder / f"notebooks/{name}.ipynb" for name in ("练习 1", "same", "gone"))
    for notebook in (changed, same, gone):
        notebook.write_text("lesson")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "notebooks"], ["commit", "-q", "-m", "lessons"]):
        subprocess.run([*git, *words], cwd=make.folder, check=True)
    changed.write_text("mine")
    gone.unlink()
    done = make("reset")
    assert done.returncode == 0, done.lines
    assert [notebook.read_text() for notebook in (changed, same, gone)] == ["lesson"] * 3
    saved = list((make.folder / "notebooks").glob(".saved-*/*"))
    assert [(file.name, file.read_text()) for file in saved] == [("练习 1.ipynb", "mine")]
    assert make("reset").lines == ["All notebooks are in their lesson state."]


@pytest.mark.browser
def test_a_notebook_opens_without_a_question(jupyter, page):
    kernel = {"name": "python3", "display_name": "Python 3"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    notebook.cells = [nbformat.v4.new_code_cell("import sys; print(sys.prefix)")]
    nbformat.write(notebook, jupyter.folder / "trivial.ipynb")
    page.goto(jupyter.lab("trivial.ipynb"))
    page.wait_for_selector("text=Python 3 (ipykernel) | Idle", timeout=60_000)  # before, a pressed key is lost
    page.locator(".jp-Notebook .cm-content").first.click(timeout=60_000)
    page.keyboard.press("Shift+Enter")
    # The kernel is this environment's own.
    page.get_by_text(sys.prefix, exact=True).wait_for(timeout=60_000)
    page.wait_for_timeout(3_000)  # the news question comes late
    assert page.locator(".jp-Dialog").count() == 0
    assert page.locator(".Toastify__toast").all_inner_texts() == []
    assert page.errors == []
