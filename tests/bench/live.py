"""Measurements of the live lab: what drawing costs, and how long a person waits in a real browser.

The browser rows need Playwright (the `test` extra) and a Chromium on PATH; without them the table says so.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from bench.training import Row, compare, trainer_rate
from labkit.core.spec import Spec
from labkit.core.trainer import Trainer

SPEC = Spec(steps=1_000_000, device="cpu")
STEPS = 20_000  # per measurement
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
TORCH = "import torch"
LAB = "import labkit\nlab = labkit.Lab(labkit.Spec(steps=1_000_000))\nlab"


def live_rows(repetitions: int) -> Iterator[Row]:
    """Measure the lab, and the lab on the screen, where what they need is installed."""
    missing = [name for name in ("ipywidgets", "anywidget", "plotly") if importlib.util.find_spec(name) is None]
    if missing:
        yield Row(f"live: left out, {' and '.join(missing)} is missing")
        return
    yield live_row("Network", repetitions)
    yield live_row("Landscape", repetitions)
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None or importlib.util.find_spec("playwright") is None:
        yield Row("in a browser: left out, needs Chromium and the package playwright")
        return
    yield from browser_rows(chromium, repetitions)


def live_row(tab: str, repetitions: int) -> Row:
    """Measure the steps per second of a lab that draws at full speed in one of its tabs against the trainer alone."""
    from labkit.lab.session import Lab

    lab = Lab(SPEC, name="bench")
    ask = lab.worker.commands.ask
    for command in (("speed", None), ("show",), ("turn", tab.lower())):  # its messages go nowhere
        ask(*command)
    trainer = Trainer(SPEC)

    def live() -> float:
        began, first = time.perf_counter(), lab.trainer.step
        ask("train")
        while lab.trainer.step < first + STEPS:
            time.sleep(0.01)
        rate = (lab.trainer.step - first) / (time.perf_counter() - began)
        ask("pause")
        while lab.state != "paused":
            time.sleep(0.01)
        return rate

    what = f"live, tab {tab}, against the trainer, steps/s"
    row = compare(what, live, lambda: trainer_rate(trainer, STEPS), 0.9, repetitions)
    lab.close()
    return row


def browser_rows(chromium: str, repetitions: int) -> Iterator[Row]:
    """Measure what a person waits for, in JupyterLab in a real browser."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as home, _jupyter(Path(home)) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        visits = [_visit(page, address) for _ in range(repetitions)]
        browser.close()
    charts, click, landscape, size, messages, frames = (median(column) for column in zip(*visits, strict=True))
    yield Row("lab's cell run → first picture, s over import torch", charts, target=1.5, at_most=True)
    yield Row("click on Train → first moved frame, s", click, target=0.15, at_most=True)
    yield Row("click on Landscape → first picture, s", landscape, target=0.12, at_most=True)
    yield Row("a frame on the wire, kB", size, target=12, at_most=True)
    yield Row("messages a frame", messages, target=10, at_most=True)
    yield Row("frames a second at full speed", frames, target=20)


def _visit(page: object, address: str) -> tuple[float, ...]:
    """Open both notebooks in fresh kernels; time the import, the lab, a click; count what a frame sends."""
    wire: list[int] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda data: wire.append(len(data))))
    page.goto("about:blank")
    _end_kernels(page, address.partition("lab/tree")[0])
    alone = _run_cell(page, address, "torch.ipynb", "text=imported")
    charts = _run_cell(page, address, "lab.ipynb", ".lk [aria-label='decision map']")
    page.wait_for_timeout(1500)
    click = page.evaluate(CLICK) / 1000
    page.locator(".lk [data-part=speed]").first.select_option(label="full speed")
    page.wait_for_timeout(1000)
    first, sent = page.evaluate(FRAMES), len(wire)
    page.wait_for_timeout(3000)
    frames, messages, size = page.evaluate(FRAMES) - first, len(wire) - sent, sum(wire[sent:])
    page.click(".lk button:has-text('Pause')")
    page.wait_for_timeout(1000)
    landscape = page.evaluate(TURN) / 1000
    return charts - alone, click, landscape, size / frames / 1000, messages / frames, frames / 3


FRAMES = "() => Number(document.querySelector('.lk').dataset.frames)"


CLICK = """() => new Promise(done => {
    const lab = document.querySelector(".lk"), before = lab.dataset.frames, began = performance.now();
    const poll = () => lab.dataset.frames !== before ? done(performance.now() - began) : requestAnimationFrame(poll);
    lab.querySelector("[data-do=train]").click();
    poll();
})"""


TURN = """() => new Promise((done, fail) => {
    const lab = document.querySelector(".lk"), began = performance.now();
    const poll = () => lab.querySelector(".labkit-figure")?.dataset.frames
        ? done(performance.now() - began) : requestAnimationFrame(poll);
    lab.querySelector("[data-tab=landscape]").click();
    poll();
    setTimeout(() => fail("no picture in the tab Landscape"), 30_000);
})"""


def _end_kernels(page: object, server: str) -> None:
    """End the kernels that earlier pages left running, so that nothing is imported yet."""
    token = {"Authorization": "token bench"}
    for session in page.request.get(f"{server}api/sessions", headers=token).json():
        page.request.delete(f"{server}api/sessions/{session['id']}", headers=token)


def _run_cell(page: object, address: str, notebook: str, sign: str) -> float:
    """Open a notebook, wait for its kernel, run its one cell; return the seconds until `sign` is there."""
    page.goto(address.replace("NOTEBOOK", notebook))
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    page.wait_for_selector("text=/Python 3 .ipykernel. . Idle/", timeout=60_000)
    page.locator(".jp-Cell .cm-content").first.click()
    began = time.perf_counter()
    page.keyboard.press("Shift+Enter")
    page.wait_for_selector(sign, timeout=60_000)
    return time.perf_counter() - began


@contextmanager
def _jupyter(home: Path) -> Iterator[str]:
    """Run a JupyterLab over two one-cell notebooks; yield the address of one named NOTEBOOK."""
    for name, source in (("torch", f"{TORCH}\nprint('impor' + 'ted')"), ("lab", LAB)):
        (home / f"{name}.ipynb").write_text(json.dumps(_notebook(source)))
    settings = home / "CONFIG" / "labconfig" / "default_setting_overrides.json"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"}}')  # as in .jupyter
    env = os.environ | {f"JUPYTER_{place}_DIR": str(home / place) for place in ("CONFIG", "DATA", "RUNTIME")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--IdentityProvider.token=bench"]
    command += [f"--ServerApp.root_dir={home}", "--ServerApp.port=0"]
    with (home / "log").open("w") as log:
        server = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield f"{_address(home / 'log', server)}lab/tree/NOTEBOOK?reset&token=bench"
    finally:
        server.terminate()
        server.wait()


def _notebook(source: str) -> dict:
    cell = {"cell_type": "code", "id": "one", "metadata": {}, "source": source, "outputs": [], "execution_count": None}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": [cell]}


def _address(log: Path, server: subprocess.Popen, seconds: float = 60) -> str:
    """Wait until the server answers; return its address."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.poll() is None:
        found = re.search(r"http://(localhost|127\.0\.0\.1):\d+/", log.read_text())
        if found:
            try:
                urllib.request.urlopen(f"{found[0]}api/status?token=bench", timeout=5).close()
                return found[0]
            except (urllib.error.URLError, OSError):
                pass
        time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start: {log.read_text()[-1000:]}")
