"""The lab in a real kernel, driven like a front end does it, by messages: clicks, sliders, and no browser."""

import json
import os
import time
from queue import Empty

import pytest
from jupyter_client import KernelManager

TARGET = 0.3  # seconds until a click is acknowledged; asserted at ten times that
LAB = "import labkit\nlab = labkit.Lab(labkit.Spec(samples=100, width=8, steps=200_000, device='cpu'))\nlab"
THREADS = "import threading\n[t.name for t in threading.enumerate() if t.name.startswith('labkit')]"


class FrontEnd:
    """What a page knows of a kernel's widgets, from the messages alone."""

    def __init__(self, client):
        self.client = client
        self.widgets = {}  # comm → state
        self.custom = []  # (comm, content)
        self.biggest = 0
        self.outputs = {}  # cell → messages
        self.idle = set()

    # What comes in

    def take(self, seconds=0.0):
        """Take in the messages that are here, waiting at most so long for the first."""
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=max(seconds, 0.001))
            except Empty:
                return
            seconds = 0.0
            kind, content = message["msg_type"], message["content"]
            cell = message["parent_header"].get("msg_id")
            if kind.startswith("comm"):
                self.biggest = max(self.biggest, len(json.dumps(content)))
                self._comm(kind, content)
            elif kind == "status" and content["execution_state"] == "idle":
                self.idle.add(cell)
            elif kind in ("stream", "error", "execute_result", "display_data"):
                self.outputs.setdefault(cell, []).append((kind, content))

    def _comm(self, kind, content):
        name, data = content["comm_id"], content.get("data") or {}
        if kind == "comm_open":
            self.widgets[name] = dict(data["state"])
        elif kind == "comm_close":
            self.widgets.pop(name, None)
        elif data.get("method") == "update":
            self.widgets.setdefault(name, {}).update(data["state"])
        elif data.get("method") == "custom":
            self.custom.append((name, data["content"]))

    def until(self, condition, seconds=20):
        """Wait until something holds, and return how long that took."""
        began = time.perf_counter()
        while not condition():
            self.take(0.01)
            assert time.perf_counter() - began < seconds, "waited in vain"
        return time.perf_counter() - began

    @property
    def screen(self):
        """The lab's screen: its comm."""
        (found,) = [name for name, has in self.widgets.items() if "scene" in has]
        return found

    @property
    def status(self):
        """What the screen is told."""
        return self.widgets[self.screen]["status"]

    def state(self):
        return self.status["state"]

    def step(self):
        return self.widgets[self.screen]["frame"]["step"]

    # What goes out

    def send(self, comm, data, subshell=None):
        message = self.client.session.msg("comm_msg", {"comm_id": comm, "data": data})
        if subshell:
            message["header"]["subshell_id"] = subshell
        self.client.shell_channel.send(message)

    def ask(self, command, *arguments, subshell=None):
        """Send what the screen sends."""
        content = {"command": command, "arguments": arguments}
        self.send(self.screen, {"method": "custom", "content": content}, subshell)

    def figures(self):
        """The live figures, in the order in which they came."""
        return [name for name, has in self.widgets.items() if "labkit-figure" in str(has.get("_esm"))]

    def start(self, code):
        return self.client.execute(code)

    def run(self, code, seconds=60):
        """Run a cell to its end, and return its outputs."""
        cell = self.start(code)
        self.until(lambda: cell in self.idle, seconds)
        return self.outputs.get(cell, [])

    def value(self, code):
        """What a cell's last line comes to."""
        outputs = self.run(code)
        (result,) = [content for kind, content in outputs if kind == "execute_result"] or [outputs]
        return result["data"]["text/plain"]

    def subshell(self):
        """Make a subshell, as JupyterLab does for widgets; None where the kernel has none."""
        features = self.reply(self.client.shell_channel, "kernel_info").get("supported_features", [])
        if "kernel subshells" not in features:
            return None
        return self.reply(self.client.control_channel, "create_subshell")["subshell_id"]

    def reply(self, channel, request):
        """What the kernel answers to a request."""
        message = self.client.session.msg(f"{request}_request")
        channel.send(message)
        while (reply := channel.get_msg(timeout=20))["parent_header"].get("msg_id") != message["header"]["msg_id"]:
            pass
        return reply["content"]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """One kernel for all tests of this file, blind to the person's own settings."""
    home = tmp_path_factory.mktemp("kernel")
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(env=os.environ | {"IPYTHONDIR": str(home)}, cwd=str(home))
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    manager.cleanup_resources()


@pytest.fixture
def page(kernel):
    """A page on a fresh lab."""
    page = FrontEnd(kernel)
    page.run(LAB)
    page.until(lambda: any("scene" in has and has["status"] for has in page.widgets.values()))
    yield page
    page.run("lab.close()")


@pytest.fixture(params=["main shell", "subshell"])
def route(request, page):
    """The way that clicks take: VS Code's and others', or JupyterLab's."""
    if request.param == "main shell":
        return None
    return page.subshell() or pytest.skip("this kernel has no subshells")


def acknowledged(page, what, condition, measured):
    took = page.until(condition)
    measured.append(f"{what} {1000 * took:.0f} ms")
    assert took < 10 * TARGET, what


def test_clicks_are_acknowledged_soon_on_every_route(page, route):
    measured = []
    page.ask("train", subshell=route)
    acknowledged(page, "Train", lambda: page.state() == "running", measured)
    page.ask("pause", subshell=route)
    acknowledged(page, "Pause", lambda: page.state() == "paused", measured)
    page.ask("train", subshell=route)
    page.until(lambda: page.state() == "running")
    page.ask("choose", {"lr": 0.03}, subshell=route)
    acknowledged(page, "learning rate", lambda: "lr_changes=[(" in page.status["code"], measured)
    page.ask("edit", {"w1.1.1": 0.5}, subshell=route)
    acknowledged(page, "a weight", lambda: "'w1.1.1': 0.5" in page.status["code"], measured)
    page.ask("speed", None, subshell=route)
    page.ask("stop", subshell=route)
    acknowledged(page, "Stop at full speed", lambda: page.state() == "stopped", measured)
    page.ask("reset", subshell=route)
    acknowledged(page, "Restart", lambda: page.state() == "idle", measured)
    print("subshell" if route else "main shell", ", ".join(measured))
    assert page.value("lab.result().lr_changes[0][1], lab.result().edits[0][1]") == "(0.03, {'w1.1.1': 0.5})"
    page.run("run, made = lab.result(), {}\nexec(run.code(), made)")
    assert page.value("bool((made['run'].loss == run.loss).all())") == "True"


def test_a_busy_cell_delays_a_click_at_most_until_its_end(page, route):
    page.ask("train", subshell=route)
    page.until(lambda: page.state() == "running")
    cell = page.start("import time; time.sleep(1.5)")
    time.sleep(0.3)
    step = page.step()
    page.ask("pause", subshell=route)
    page.until(lambda: page.step() != step)  # training and drawing go on meanwhile
    took = page.until(lambda: page.state() == "paused")
    busy = cell not in page.idle
    print(
        "subshell" if route else "main shell", "paused", "during" if busy else "after", f"the cell, after {took:.2f} s"
    )
    page.until(lambda: cell in page.idle)
    assert page.value("lab.state") == "'paused'"
    assert took < 1.5 + 10 * TARGET


def test_result_waits_for_a_run_that_was_started_by_a_click(page):
    page.ask("choose", {"steps": 300})
    page.ask("train")
    assert page.value("len(lab.result().loss)") == "300"
    page.until(lambda: page.state() == "done")


def test_a_thousand_moves_settle_on_the_last(page, route):
    began = time.perf_counter()
    for k in range(1, 1001):
        page.ask("choose", {"lr": k / 1000}, subshell=route)
    page.until(lambda: page.value("lab.choices.lr, lab.trainer.spec.lr") == "(1.0, 1.0)")
    print("subshell" if route else "main shell", f"1,000 moves taken in {time.perf_counter() - began:.2f} s")
    page.ask("train", subshell=route)
    page.until(lambda: page.state() == "running", seconds=3)


def test_nothing_of_the_plot_library_is_sent_until_the_landscape_is_opened(page, route):
    page.ask("train", subshell=route)
    page.until(lambda: page.state() == "running")
    page.take(0.5)
    assert not page.custom and not page.figures()
    page.ask("turn", "landscape", subshell=route)
    took = page.until(page.figures)
    figure = page.figures()[0]
    page.send(figure, {"method": "custom", "content": "plotly"}, route)
    page.until(lambda: (figure, {"plotly": True}) in page.custom)
    page.send(figure, {"method": "custom", "content": "view"}, route)
    page.until(lambda: any(comm == figure and "figure" in content for comm, content in page.custom))
    print(f"the figure came {took:.2f} s after the tab was opened")
    assert max(len(json.dumps(content)) for _, content in page.custom) < 100_000


def test_an_error_in_the_thread_comes_out_of_the_cell_that_asks_for_the_result(page):
    page.run("from labkit.core.trainer import Trainer\nkept, Trainer.advance = Trainer.advance, lambda *a: 1 / 0")
    page.ask("train")
    page.until(lambda: page.state() == "failed")
    errors = [page.run(cell)[-1] for cell in ("lab.result()", "lab.run()")]
    page.run("Trainer.advance = kept")
    assert [(kind, content["ename"]) for kind, content in errors] == [("error", "ZeroDivisionError")] * 2
    assert "ZeroDivisionError" in page.status["warning"]
    page.ask("reset")
    page.until(lambda: page.state() == "idle")
    page.ask("train")
    page.until(lambda: page.state() == "running")


def test_an_interrupt_stops_the_run_of_the_waiting_cell_and_nothing_else(page, kernel):
    page.run("lab.choices.steps = 10_000_000")
    cell = page.start("lab.run()")
    page.until(lambda: page.state() == "running")
    page.reply(kernel.control_channel, "interrupt")
    took = page.until(lambda: cell in page.idle)
    print(f"interrupted after {took:.2f} s")
    assert page.outputs[cell][-1][1]["ename"] == "KeyboardInterrupt"
    assert page.value("lab.state, 0 < lab.result().steps < 10_000_000") == "('stopped', True)"


def test_a_cell_run_twenty_times_leaves_one_lab(page, route):
    count = "from ipywidgets.widgets.widget import _instances\nlen(_instances)"
    before, known = int(page.value(count)), len(page.widgets)
    for _ in range(20):
        page.run(LAB)
        page.ask("train", subshell=route)
    page.until(lambda: page.state() == "running")
    assert page.value(THREADS) == "['labkit main']"
    assert int(page.value(count)) <= before + 5
    assert len(page.widgets) <= known + 5  # the page was told of every closed widget
