"""What every test file may use: a real JupyterLab, a real browser; and how two workers share the tests."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

import nbformat
import psutil
import pytest
import torch
from executed import excerpt
from playwright.sync_api import sync_playwright
from xdist.scheduler import LoadScopeScheduling

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell's background job ignores Ctrl-C, as would its children
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent
VIEWPORT = {"width": 1400, "height": 1000}
# What starts kernels, browsers or other processes, the longest first, so that both workers end at the same time.
SLOW = (
    "test_notebooks.py::test_a_notebook_runs",
    "test_notebooks.py::test_a_notebook_comes_to",
    "lab/test_browser_explorers.py",
    "lab/test_browser.py",
    "reports/test_faults.py",
    "reports/test_sweep.py",
    "reports/test_report.py",
    "core/test_sharded.py",
    "core/test_checkpoints.py::test_a_training_killed",
    "lab/test_lab_in_a_kernel.py",
    "test_notebooks.py::test_losses_are_the_same",
    "test_notebooks.py::test_errors_that",
    "test_setup.py",
    "bench/",
)
ALONE = ("test_notebooks.py", "lab/test_browser_explorers.py", "core/test_checkpoints.py")  # each test for itself


def pytest_collection_modifyitems(config, items):
    for item in items:
        place = item.nodeid.removeprefix("tests/")
        item.rank = next((k for k, start in enumerate(SLOW) if place.startswith(start)), len(SLOW))
        if item.rank < len(SLOW):
            item.add_marker(pytest.mark.slow)
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
    if hasattr(config, "workerinput"):  # one of several workers
        items.sort(key=lambda item: item.rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Tests that share what is dear to make go to one worker: a notebook's run, a file's kernel or cluster.

    xdist has marks for that, but under pytest 9.2 xdist 3.8 overlooks them.
    """
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = shared_by
    return scheduler


def shared_by(nodeid):
    """What a test shares with others: two tests of one answer go to one worker."""
    place = nodeid.removeprefix("tests/")
    notebook = re.search(r"^test_notebooks.*\[(\d\d_\w+|elsewhere)\]$", place)
    if notebook:
        return notebook[1].replace("elsewhere", "00_start_here")
    return nodeid if place.startswith(ALONE) else place.split("::")[0]


@pytest.fixture(scope="session")
def chromium():
    """The path of the system's Chromium."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    if os.environ.get("LABKIT_BROWSER") == "required":
        pytest.fail("no Chromium on PATH, and LABKIT_BROWSER=required")
    pytest.skip("no Chromium on PATH")


class Jupyter(NamedTuple):
    """A running JupyterLab over a copy of the notebooks."""

    url: str  # ends without a slash
    token: str
    folder: Path

    def excerpt(self, name, **choices):
        """Put the labs and explorers of a notebook, with other parameters, in its place."""
        nbformat.write(excerpt(ROOT / "notebooks" / name, **choices), self.folder / name)
        return name

    def request(self, path, method="GET"):
        """Ask the server's own interface, and return its answer."""
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(f"{self.url}/api/{path}", headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.read()

    def end_kernels(self):
        """End the kernels of all notebooks that were opened."""
        for session in json.loads(self.request("sessions")):
            self.request(f"sessions/{session['id']}", "DELETE")

    def lab(self, notebook):
        """The address that opens one notebook, and nothing left over from an earlier page."""
        return f"{self.url}/lab/tree/{notebook}?reset&token={self.token}"


@pytest.fixture(scope="session")
def jupyter(tmp_path_factory):
    """JupyterLab from this interpreter over a copy of the notebooks, blind to the person's own settings."""
    home = tmp_path_factory.mktemp("jupyter")
    folder = home / "notebooks"
    shutil.copytree(ROOT / "notebooks", folder, ignore=shutil.ignore_patterns(".*"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lab = Jupyter(f"http://127.0.0.1:{port}", "test", folder)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--IdentityProvider.token={lab.token}"]
    command += [f"--ServerApp.root_dir={folder}", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # containers
    places = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    places += ("JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    env = os.environ | {place: str(home / place.lower()) for place in places}
    env["JUPYTER_CONFIG_PATH"] = str(ROOT / ".jupyter")  # as in the Makefile
    log = home / "server.log"
    with log.open("w") as out:
        server = psutil.Popen(
            command,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        _wait_until_ready(lab, server, log)
        yield lab
    finally:
        # Kernels live in sessions of their own, where a signal to the server's group would not reach them.
        family = []
        if server.poll() is None:
            family = server.children(recursive=True)
            server.terminate()  # the server then stops its kernels itself
        for process in psutil.wait_procs([*family, server], timeout=15)[1]:
            process.kill()


def _wait_until_ready(lab, server, log, seconds=90):
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.poll() is None:
        try:
            lab.request("status")
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start; the end of its log:\n{log.read_text()[-3000:]}")


@contextlib.contextmanager
def browser_of(chromium):
    """A running browser. While Playwright runs, asyncio counts as running too, which trips nbclient in other tests."""
    flags = ["--no-sandbox", "--disable-quic", "--no-first-run"]
    flags += ["--disable-gpu-rasterization"]  # which without a GPU costs a quarter of the time
    flags += ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]  # WebGL without a GPU, for the 3-D pictures
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield browser
        browser.close()


def opened_page(context):
    """A fresh page; its `errors` gathers what the console and uncaught exceptions say."""
    page = context.new_page()
    page.errors = []
    page.on("console", lambda line: page.errors.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    return page


@pytest.fixture
def page(chromium):
    """A fresh page of a browser for this test alone."""
    with browser_of(chromium) as browser:
        yield opened_page(browser.new_context(viewport=VIEWPORT))


@pytest.fixture(scope="module")
def context(chromium):
    with browser_of(chromium) as browser:
        yield browser.new_context(viewport=VIEWPORT)


@pytest.fixture
def cached_page(context):
    """A fresh page of one browser for the tests of a file: JupyterLab is large, and the second page finds it there."""
    page = opened_page(context)
    yield page
    page.close()
